package nft

import (
	"context"
	"errors"
	"log/slog"
)

// Table is the two kernel tables of this network namespace. It is not safe for
// concurrent use.
type Table struct {
	log  *slog.Logger
	bell chan<- struct{}
}

// Open connects to the kernel and changes nothing yet. The bell is rung, without
// blocking, when somebody else changed our tables; the next Apply then reads
// back and heals, even with an empty Wish. A nil bell is never rung.
func Open(log *slog.Logger, bell chan<- struct{}) (*Table, error) {
	return &Table{log: log, bell: bell}, nil
}

// Apply makes the kernel hold the wish, in one transaction or none. What was
// wished is remembered even when an error is returned: the next Apply, be its wish empty
// (but for Static), reads the kernel back and goes on from what is there.
func (t *Table) Apply(ctx context.Context, w Wish) (Report, error) {
	return Report{}, errors.New("not yet")
}

// Close ends the connections to the kernel and leaves the tables in place.
func (t *Table) Close() error { return nil }

// Cleanup deletes both tables. It is no error if there are none.
func Cleanup(ctx context.Context) error { return nil }
