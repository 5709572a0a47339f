package main

import (
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/api/v1beta1"
)

const (
	// calmAfter is how long a storm lasts after its last address, at most.
	calmAfter = time.Second
	// newsRate and newsBurst bound how many news are written a second during a storm: each costs the API server as much
	// as an address does.
	newsRate, newsBurst = 1, 50
	// More addresses than stormRate a second, or than stormBurst at once, are a storm. Fewer never are: news of them would
	// fall behind for ever.
	stormRate, stormBurst = 10, 50
)

// news lets addresses go before what is told of them: who announces an address can wait while others wait for one.
type news struct {
	limit *rate.Limiter
	usual *rate.Limiter // of addresses: in debt during a storm, by what comes in in calmAfter at most
}

func newNews() news {
	return news{limit: rate.NewLimiter(newsRate, newsBurst), usual: rate.NewLimiter(stormRate, stormBurst)}
}

// hold returns the changes to write now, and how many more there are that can wait.
func (n *news) hold(changes []serviceChange, now time.Time) (due []serviceChange, held int) {
	addresses := 0
	for _, c := range changes {
		if !c.isNews() {
			addresses++
		}
	}
	n.count(addresses, now)
	if n.calm(now) {
		return changes, 0
	}
	due = slices.DeleteFunc(slices.Clone(changes), func(c serviceChange) bool { return c.isNews() && !n.limit.AllowN(now, 1) })
	return due, len(changes) - len(due)
}

// count takes note of so many addresses given.
func (n *news) count(addresses int, now time.Time) {
	most := n.usual.TokensAt(now) + stormRate*calmAfter.Seconds()
	for left := min(addresses, int(most)); left > 0; left -= stormBurst { // the limiter takes no more at once
		n.usual.ReserveN(now, min(left, stormBurst))
	}
}

// calm reports whether there was no storm for a while.
func (n *news) calm(now time.Time) bool {
	return n.usual.TokensAt(now) >= 0
}

// isNews reports whether a change says no more than who announces an address.
func (c serviceChange) isNews() bool {
	if c.ingress != nil || c.from != nil || slices.ContainsFunc(c.drop, func(kind string) bool { return kind != v1beta1.ConditionAnnounced }) {
		return false
	}
	for _, condition := range c.set {
		if condition.Type != v1beta1.ConditionAnnounced {
			return false
		}
	}
	return true
}
