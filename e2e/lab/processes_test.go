package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const tail = " 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 "
	for _, test := range []struct {
		name, line, state string
		start             uint64
		bad               bool
	}{
		{"plain", "12 (etcd) S" + tail + "4711 9 9", "S", 4711, false},
		{"a name with parentheses", "12 (a) (b c) R" + tail + "4711 9 9", "R", 4711, false},
		{"waiting to be reaped", "12 (etcd) Z" + tail + "4711", "Z", 4711, false},
		{"cut short", "12 (etcd) S 1 1", "", 0, true},
		{"empty", "", "", 0, true},
		{"start is no number", "12 (etcd) S" + tail + "x", "", 0, true},
	} {
		state, start, err := parseStat(test.line)
		if (err != nil) != test.bad {
			t.Errorf("%s: unexpected error %v", test.name, err)
		}
		if err == nil && (state != test.state || start != test.start) {
			t.Errorf("%s: want %s %d, got %s %d", test.name, test.state, test.start, state, start)
		}
	}
}

func TestProcessesAreOursByNumberAndStartTime(t *testing.T) {
	l := lab{dir: t.TempDir()}
	pid := os.Getpid()
	if err := l.note("node1", "kubelet", pid); err != nil {
		t.Fatal(err)
	}
	// The same number with another start time is a later process, not ours; an unreadable note is of none.
	for name, text := range map[string]string{"later": "1 999999999999\n", "cut": "12"} {
		if err := writeFile(l.pidFile("node1", name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	ps, err := l.processes()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, p := range ps {
		got[p.Host+"/"+p.Name] = p.alive()
	}
	want := map[string]bool{"node1/kubelet": true, "node1/later": false, "node1/cut": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alive (-want +got):\n%s", diff)
	}
}

func TestKillEndsWhatIsListed(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := process{PID: cmd.Process.Pid}
	start, err := startTime(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	p.Start = start
	err = kill(t.Context(), func() ([]int, error) {
		if p.alive() {
			return []int{p.PID}, nil
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("want a killed process, got %v", err)
	}
}

func TestMountsBelow(t *testing.T) {
	const info = `27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:4 / /src/.lab/ns rw - ext4 /dev/vda rw
31 30 0:4 net:[1] /src/.lab/ns/node1.mnt rw - nsfs nsfs rw
32 27 0:5 / /src/.labor rw - tmpfs tmpfs rw
33 27 0:5 / /src/.lab/with\040space rw - tmpfs tmpfs rw
`
	want := []string{"/src/.lab/ns", "/src/.lab/ns/node1.mnt", "/src/.lab/with space"}
	if diff := cmp.Diff(want, mountsBelow(info, "/src/.lab")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
