// Command bench runs Fairlead's speaker and kube-proxy, the real programs, side by side: each on a node of its own made
// of network namespaces, both against one real API server that holds as many Services as is asked for.
//
// It may touch: network namespaces without a name, which end with it, control groups of its own, and a temporary folder.
// The machine's own network is out of bounds: the command itself moves to a namespace of its own first.
//
// Out of scope: pods, kubelets, announcing addresses, and more than one node. That is the lab's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const usage = `usage: go run ./e2e/bench [FLAGS] compare|churn

  compare   measure the speaker beside kube-proxy, and print a page like docs/performance.md
  churn     change endpoints and kill the speaker while a client connects: no connection may fail
`

// settings are the flags.
type settings struct {
	speaker  string
	sizes    []int
	runs     int
	rounds   int
	page     string
	profile  string
	duration time.Duration
	services int
	rate     int
	connects int
	kill     time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	s, command, err := parse(args)
	if err != nil {
		return err
	}
	if err := moveAway(); err != nil {
		return err
	}
	switch command {
	case "compare":
		return compare(ctx, s)
	case "churn":
		return churnCommand(ctx, s)
	}
	return fmt.Errorf("no command %q\n\n%s", command, usage)
}

func parse(args []string) (settings, string, error) {
	s := settings{}
	var sizes string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage, "\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&s.speaker, "speaker", "bin/speaker", "the speaker's program")
	flags.StringVar(&sizes, "sizes", "100,1000", "compare: how many Services, ascending")
	flags.IntVar(&s.runs, "runs", 3, "compare: cold starts of each program at each size; kube-proxy's are fewer where they take minutes")
	flags.IntVar(&s.rounds, "rounds", 40, "compare: rounds of packets and connections through each node")
	flags.StringVar(&s.page, "page", "", "compare: write the page to this file instead of printing it")
	flags.StringVar(&s.profile, "profile", "", "compare: a folder for the speaker's profiles; the program must serve them, see docs/performance.md")
	flags.DurationVar(&s.duration, "duration", 10*time.Minute, "churn: how long")
	flags.IntVar(&s.services, "services", 5000, "churn: how many Services change")
	flags.IntVar(&s.rate, "changes", 200, "churn: endpoint changes a second")
	flags.IntVar(&s.connects, "connections", 500, "churn: connections a second")
	flags.DurationVar(&s.kill, "kill", 30*time.Second, "churn: how often the speaker is killed")
	if err := flags.Parse(args); err != nil {
		return s, "", err
	}
	for _, text := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 10 || n > 60000 {
			return s, "", fmt.Errorf("--sizes=%s: write numbers from 10 to 60000, such as 100,1000", sizes)
		}
		s.sizes = append(s.sizes, n)
	}
	if flags.NArg() != 1 {
		return s, "", errors.New("say what to do: compare or churn")
	}
	return s, flags.Arg(0), nil
}

// away is set in the environment once this program is in a network namespace of its own.
const away = "FAIRLEAD_BENCH_AWAY"

// moveAway starts this program again in a network namespace of its own, all threads of it.
func moveAway() error {
	if os.Getenv(away) != "" {
		h, err := handle(0)
		if err != nil {
			return err
		}
		defer h.Close()
		return up(h, "lo", "")
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	return fmt.Errorf("start %s again: %w", self, unix.Exec(self, os.Args, append(os.Environ(), away+"=1")))
}
