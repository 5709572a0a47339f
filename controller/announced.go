package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/controller/ipam"
)

// announcers is who announces what, as the speakers tell it.
type announcers struct {
	speakers int
	byAddr   map[netip.Addr]announcer
	routed   routed
	problems map[string][]string // by object
	empty    map[string][]string // those of them that say a Service has no endpoint, which by itself stops no announcement
	urgent   map[string]bool     // objects with a problem that no waiting will solve
	contests map[string][]string // those of them that say another host uses an address, by object
}

type announcer struct {
	node, link, next string // next would announce it if node could not
	since            metav1.Time
}

// readAnnouncers reads all speakers. If two tell of one address, the later claim counts: the other node died with it. What
// silent ones told routers is forgotten.
func readAnnouncers(speakers []v1beta1.Speaker, silent map[string]bool) announcers {
	a := announcers{
		speakers: len(speakers), byAddr: map[netip.Addr]announcer{}, routed: readRouted(speakers, silent),
		problems: map[string][]string{}, empty: map[string][]string{}, urgent: map[string]bool{}, contests: map[string][]string{},
	}
	for _, speaker := range speakers {
		for _, announced := range speaker.Status.Addresses {
			addr, err := netip.ParseAddr(announced.Address)
			if err != nil {
				continue
			}
			next := announcer{node: speaker.Name, link: announced.Link, next: announced.RunnerUp}
			if announced.Since != nil {
				next.since = *announced.Since
			}
			if have, ok := a.byAddr[addr]; !ok || later(next, have) {
				a.byAddr[addr] = next
			}
		}
		for _, problem := range speaker.Status.Problems {
			a.note(speaker.Name, problem)
		}
	}
	for _, problems := range []map[string][]string{a.problems, a.empty} {
		for _, texts := range problems {
			slices.Sort(texts)
		}
	}
	return a
}

// note takes note of what one speaker cannot do.
func (a announcers) note(speaker string, problem v1beta1.SpeakerProblem) {
	text := speaker + ": " + cmp.Or(problem.Message, problem.Reason)
	switch problem.Reason {
	case v1beta1.ReasonNoEndpoints:
		a.empty[problem.Object] = append(a.empty[problem.Object], text)
		return
	case v1beta1.ReasonNoLocalEndpoint: // the pods of a new Service take their time
	case v1beta1.ReasonAddressConflict:
		a.contests[problem.Object] = append(a.contests[problem.Object], text)
		a.urgent[problem.Object] = true
	default:
		a.urgent[problem.Object] = true
	}
	a.problems[problem.Object] = append(a.problems[problem.Object], text)
}

func later(a, b announcer) bool {
	if !a.since.Equal(&b.since) {
		return b.since.Before(&a.since)
	}
	return a.node < b.node
}

// patience is how long a new address may be without a node before that is bad news.
const patience = 15 * time.Second

// condition returns the condition Announced of a Service. There is none for a Service without an address of ours.
func (a announcers) condition(e entry, g ipam.Grant, now time.Time) (condition metav1.Condition, ok bool) {
	if len(g.Addrs) == 0 || e.claim.Foreign != "" {
		return condition, false
	}
	condition = metav1.Condition{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue, Reason: v1beta1.ReasonAnnounced}
	by, missing := make([]string, 0, len(g.Addrs)), make([]string, 0, len(g.Addrs))
	for _, addr := range g.Addrs {
		if who := a.who(addr); who != "" {
			by = append(by, addr.String()+" by "+who)
		} else {
			missing = append(missing, addr.String())
		}
	}
	condition.Message = strings.Join(append(by, a.contests["service/"+e.claim.Service.String()]...), ", ")
	if len(missing) > 0 {
		condition.Status = metav1.ConditionFalse
		condition.Reason, condition.Message = a.nobody(e, missing, by)
	}
	if condition.Status == metav1.ConditionFalse && !a.urgent["service/"+e.claim.Service.String()] && impatience(e, now) < patience {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionUnknown, v1beta1.ReasonPending, "waiting for a node to announce "+strings.Join(missing, ", ")
	}
	return condition, true
}

// who says who announces an address, "" if nobody does.
func (a announcers) who(addr netip.Addr) string {
	var all []string
	if node, ok := a.byAddr[addr]; ok {
		all = append(all, node.String())
	}
	if routed := a.routed.by(addr); routed != "" {
		all = append(all, routed)
	}
	return strings.Join(all, " and by ")
}

// layer2 tells whether a node answers for one of the addresses itself.
func (a announcers) layer2(g ipam.Grant) bool {
	return slices.ContainsFunc(g.Addrs, func(addr netip.Addr) bool { _, ok := a.byAddr[addr]; return ok })
}

// impatience returns for how long a Service has been waiting for a first node.
func impatience(e entry, now time.Time) time.Duration {
	have := meta.FindStatusCondition(e.service.Status.Conditions, v1beta1.ConditionAnnounced)
	switch {
	case have == nil:
		return 0
	case have.Status != metav1.ConditionUnknown:
		return patience
	}
	return now.Sub(have.LastTransitionTime.Time)
}

// problemsOf returns what speakers say of a Service, sorted.
func (a announcers) problemsOf(e entry) []string {
	object := "service/" + e.claim.Service.String()
	if problems := a.problems[object]; len(problems) > 0 {
		return problems
	}
	return a.empty[object]
}

func (w announcer) String() string {
	text := "node " + w.node
	if w.link != "" {
		text += " on " + w.link
	}
	if w.next != "" {
		text += runnerUp + w.next + ")"
	}
	return text
}

// runnerUp comes before the name of the next node in a message.
const runnerUp = " (then "

// sameNodes tells whether two messages name the same announcers: another runner-up is no news.
func sameNodes(a, b string) bool { return withoutRunnersUp(a) == withoutRunnersUp(b) }

func withoutRunnersUp(message string) string {
	for {
		before, rest, found := strings.Cut(message, runnerUp)
		if !found {
			return message
		}
		_, after, _ := strings.Cut(rest, ")")
		message = before + after
	}
}

// nobody says why addresses are not announced, as far as the speakers know.
func (a announcers) nobody(e entry, missing, by []string) (reason, message string) {
	if a.speakers == 0 {
		return v1beta1.ReasonNoSpeaker, "no speaker has reported: see whether the pods of the DaemonSet fairlead-speaker run"
	}
	message = "no node announces " + strings.Join(missing, ", ")
	if problems := a.problemsOf(e); len(problems) > 0 {
		const most = 5
		if len(problems) > most {
			problems = append(problems[:most:most], fmt.Sprintf("and %d more", len(problems)-most))
		}
		message += ": " + strings.Join(problems, "; ")
	}
	if len(by) > 0 {
		message += "; announced: " + strings.Join(by, ", ")
	}
	if a.taken(e, missing) {
		return v1beta1.ReasonAddressConflict, message
	}
	return v1beta1.ReasonNotAnnounced, message
}

// taken tells whether a speaker says that another host uses one of the missing addresses.
func (a announcers) taken(e entry, missing []string) bool {
	return slices.ContainsFunc(a.contests["service/"+e.claim.Service.String()], func(text string) bool {
		return slices.ContainsFunc(missing, func(addr string) bool { return strings.Contains(text, " "+addr+" ") })
	})
}
