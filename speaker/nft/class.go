package nft

import (
	"fmt"
	"strconv"
	"strings"
)

// A token is the 32 bits that the packet's priority carries from the lookup of
// the frontend to the choice of an endpoint:
//
//	[ target: 19 bits | class: 13 bits ]
//
// Targets are many (one for each list of endpoints of each Service port: half a
// million), classes are few (one for each kind of traffic and number of
// endpoints in use) and are numbered when they first appear.
const (
	classBits  = 13
	classMask  = 1<<classBits - 1
	targetMask = ^uint32(classMask)
	maxTarget  = 1<<(32-classBits) - 1
)

func token(target uint32, class uint16) uint32 { return target<<classBits | uint32(class) }

// stage is the part of a packet's way that a class stands for.
type stage uint8

const (
	rejecting stage = iota
	dropping
	clustering
	external
	localOnly
	plain       // choose an endpoint and go there
	remembering // write down which endpoint the client got
)

// stageNames begin the names of chains. (nft takes no keyword, such as
// "reject", for a chain's name in its own listing.)
var stageNames = [...]string{"refuse", "drop", "cluster", "external", "local", "plain", "remember"}

// class says all about how packets of a frontend are treated that is not in
// its elements. Each is a chain of its own.
type class struct {
	stage   stage
	guarded bool // sources are checked first
	hash    bool // slots are chosen by a hash of the client
	slots   uint32
	sticky  uint32 // seconds that a client keeps its endpoint, 0 for none
}

// chain is the class's chain name. It says all of the class, see parseClass.
func (c class) chain() string {
	var parts []string
	if c.guarded {
		parts = append(parts, "guarded")
	}
	parts = append(parts, stageNames[c.stage])
	if c.stage >= clustering && c.stage <= plain {
		parts = append(parts, strconv.FormatUint(uint64(c.slots), 10))
	}
	if c.hash {
		parts = append(parts, "hash")
	}
	if c.sticky != 0 && c.stage != remembering {
		parts = append(parts, "sticky")
	}
	if c.sticky != 0 {
		parts = append(parts, strconv.FormatUint(uint64(c.sticky), 10))
	}
	return strings.Join(parts, "-")
}

// parseClass is the inverse of class.chain.
func parseClass(name string) (class, bool) {
	var c class
	rest, guarded := strings.CutPrefix(name, "guarded-")
	c.guarded = guarded
	words := strings.Split(rest, "-")
	found := false
	for i, n := range stageNames {
		if words[0] == n {
			c.stage, found = stage(i), true
		}
	}
	if !found {
		return class{}, false
	}
	var numbers []uint32
	for _, w := range words[1:] {
		switch n, err := strconv.ParseUint(w, 10, 32); {
		case err == nil:
			numbers = append(numbers, uint32(n))
		case w == "hash":
			c.hash = true
		}
	}
	if c.stage >= clustering && c.stage <= plain && len(numbers) > 0 {
		c.slots, numbers = numbers[0], numbers[1:]
	}
	if len(numbers) > 0 {
		c.sticky = numbers[0]
	}
	return c, c.chain() == name
}

// behind is the class that follows when this one's own checks are done, if any.
func (c class) behind() (class, bool) {
	switch {
	case c.guarded:
		c.guarded = false
		return c, true
	case c.stage == localOnly && c.slots == 0:
		return class{}, false
	case c.stage == clustering, c.stage == external, c.stage == localOnly:
		c.stage = plain
		return c, true
	case c.stage == plain && c.sticky != 0:
		c.sticky = 0
		return c, true
	}
	return class{}, false
}

// dispatcher is the map that leads packets with a token of this class to its chain.
func (c class) dispatcher() setID {
	switch c.stage {
	case plain:
		return plainClasses
	case remembering:
		return remembers
	default:
		return classes
	}
}

// memory is the class that remembers what a sticky class chose.
func (c class) memory() class { return class{stage: remembering, sticky: c.sticky} }

// verdict is the data of the class's element in its dispatcher.
func (c class) verdict() string {
	if c.stage == dropping {
		return "drop"
	}
	return "goto " + c.chain()
}

// classOf is the class of a frontend's packets.
func classOf(s Service, f Frontend) class {
	switch f.Kind {
	case Cluster:
		return targetClass(s, f.Target, clustering, f.Guarded)
	case External:
		return targetClass(s, f.Target, external, f.Guarded)
	case Local:
		return targetClass(s, f.Target, localOnly, f.Guarded)
	case Drop:
		return class{stage: dropping}
	case Reject:
		return class{stage: rejecting, guarded: f.Guarded}
	}
	return class{stage: rejecting, guarded: f.Guarded}
}

// targetClass falls back to what is safe when the target is missing.
func targetClass(s Service, target int, st stage, guarded bool) class {
	c := class{stage: st, guarded: guarded}
	if target < 0 || target >= len(s.Targets) {
		if st != localOnly {
			c.stage = rejecting
		}
		return c
	}
	t := s.Targets[target]
	c.slots, c.hash, c.sticky = slotCount(t), t.Pick == Hash, t.Affinity
	return c
}

func (c class) String() string {
	return fmt.Sprintf("%s %s", c.dispatcher(), c.chain())
}
