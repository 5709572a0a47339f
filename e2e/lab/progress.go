package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A progress tells the user what is being done and how long it took, one line per step.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, began: time.Now()} }

// step runs f and prints its name with the time it took; a long step says every 15 seconds that it goes on.
func (p *progress) step(name string, f func() error) error {
	began := time.Now()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.printf("  ... %s, %s so far\n", name, since(began))
			case <-done:
				return
			}
		}
	})
	err := f()
	close(done)
	wg.Wait()
	if err == nil {
		p.printf("%7s  %s\n", since(began), name)
	}
	return err
}

func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format, args...)
}

// total is how long it has been since the start.
func (p *progress) total() string { return since(p.began) }

func since(t time.Time) string {
	d := time.Since(t)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
