package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace rings many times during and after a round of 20 ms, and once after a quiet time.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		bell := make(chan struct{}, 1)
		p := newPace(bell, tempo{9, 0, 500 * time.Millisecond})
		go func() { _ = p.run(ctx) }()
		began := time.Now()

		ring(p.bell)
		<-bell
		if since := time.Since(began); since != 0 {
			t.Errorf("the first ring passes after %s, want at once", since)
		}
		p.worked(20 * time.Millisecond)
		if p.rested() {
			t.Error("the loop has rested before its time")
		}
		for range 100 {
			ring(p.bell)
		}
		<-bell
		if since := time.Since(began); since != 180*time.Millisecond {
			t.Errorf("the next passes after %s, want 180ms", since)
		}
		synctest.Wait()
		select {
		case <-bell:
			t.Error("100 rings are more than one")
		default:
		}

		p.worked(time.Second)
		ring(p.bell)
		<-bell
		if since := time.Since(began); since != 680*time.Millisecond {
			t.Errorf("after a long round it passes after %s, want no more than 500ms later", since)
		}
		time.Sleep(time.Hour) // of the bubble's clock
		if !p.rested() {
			t.Error("the loop has not rested after an hour")
		}
		began = time.Now()
		ring(p.bell)
		<-bell
		if since := time.Since(began); since != 0 {
			t.Errorf("after a quiet time it passes after %s, want at once", since)
		}
		cancel()
	})
}
