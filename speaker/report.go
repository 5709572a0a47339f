package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
	"github.com/fairlead/fairlead/speaker/l2"
	"github.com/fairlead/fairlead/speaker/links"
	"github.com/fairlead/fairlead/speaker/members"
	"github.com/fairlead/fairlead/speaker/nft"
)

// problem is something this node cannot do, for its Speaker object.
type problem struct {
	Object, Reason, Message string
}

// mostProblems bounds how many problems a Speaker object lists.
const mostProblems = 100

// contestProblems lists the Services that want what another has.
func contestProblems(contests []nft.Contest) []problem {
	var found []problem
	for _, contest := range contests {
		for _, loser := range contest.Losers {
			found = append(found, problem{"service/" + loser, v1beta1.ReasonFrontendTaken, fmt.Sprintf(
				"%s belongs to Service %s, which had it first: give one of them another address or port", contest.Frontend, contest.Winner)})
		}
	}
	return found
}

func compareProblems(a, b problem) int {
	return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Reason, b.Reason), strings.Compare(a.Message, b.Message))
}

// reached is what the loops reached. A nil state means that one has not come round yet.
type reached struct {
	forward  *forwardState
	announce *announceState
	peers    *peerState
	missing  []string // kinds the API server does not serve, sorted
}

// report says what a speaker reached.
func report(r reached) v1beta1.SpeakerStatus {
	f, a := r.forward, r.announce
	var status v1beta1.SpeakerStatus
	problems := kindProblems(r.missing)
	if f != nil {
		status.Forwarding = reportForwarding(*f)
		problems = append(problems, f.Problems...)
	}
	if a != nil {
		status.Addresses = reportAddresses(a.Held, a.States)
		status.Members = reportMembers(a.Members)
		status.Links = reportLinks(a.Links)
		problems = append(problems, announceProblems(*a)...)
	}
	if p := r.peers; p != nil {
		status.Peers = reportPeers(p.Sessions, p.Paths, p.Plan)
		status.Routes = reportRoutes(p.Plan, p.Sessions)
		problems = append(problems, routeProblems(p.Plan)...)
		problems = append(problems, deafProblems(p.Sessions)...)
	}
	slices.SortFunc(problems, compareProblems)
	problems = slices.Compact(problems)
	var nobody []problem
	if a != nil {
		nobody = a.Nobody
	}
	status.Counts = v1beta1.SpeakerCounts{
		Addresses: int32(len(status.Addresses)), Problems: int32(len(problems) + len(nobody)), Members: alive(status.Members),
		Peers: establishedPeers(status.Peers),
	}
	for _, p := range fewProblems(problems, nobody) {
		status.Problems = append(status.Problems, v1beta1.SpeakerProblem(p))
	}
	return status
}

// fewProblems returns as many problems as a Speaker object lists, sorted. Those of addresses that nobody announces may be
// thousands and all alike: they get the room that the others leave.
func fewProblems(problems, nobody []problem) []problem {
	problems = problems[:min(len(problems), mostProblems)]
	nobody = nobody[:min(len(nobody), mostProblems-len(problems))]
	few := slices.Concat(problems, nobody)
	slices.SortFunc(few, compareProblems)
	return few
}

func reportForwarding(f forwardState) *v1beta1.ForwardingStatus {
	status := &v1beta1.ForwardingStatus{
		Active: f.Active, Mode: f.Mode, Reason: f.Reason, Generation: f.Generation,
		Services: int32(f.Services), Endpoints: int32(f.Endpoints), LastError: f.LastError,
	}
	if !f.LastSync.IsZero() {
		status.LastSync = &metav1.Time{Time: f.LastSync.Truncate(time.Second)}
	}
	return status
}

// reportAddresses lists what is really answered for, an address once, by its first link.
func reportAddresses(held []hold, states []l2.State) []v1beta1.AnnouncedAddress {
	by := map[netip.Addr]hold{}
	for _, h := range held {
		by[h.Announcement.Address] = h
	}
	var found []v1beta1.AnnouncedAddress
	for _, state := range states {
		h, holds := by[state.Address]
		if !holds || state.MAC == nil || state.Handed {
			continue
		}
		if n := len(found); n > 0 && found[n-1].Address == state.Address.String() {
			continue
		}
		found = append(found, v1beta1.AnnouncedAddress{
			Address: state.Address.String(), Services: h.Verdict.Services, Link: state.Link, MAC: state.MAC.String(),
			Since: &metav1.Time{Time: state.Since.Truncate(time.Second)}, Reason: h.Verdict.Message,
			RunnerUp: h.Verdict.RunnerUp,
		})
	}
	slices.SortFunc(found, func(a, b v1beta1.AnnouncedAddress) int { return strings.Compare(a.Address, b.Address) })
	return found
}

func reportMembers(all []members.Member) []v1beta1.Member {
	var found []v1beta1.Member
	for _, m := range all {
		found = append(found, v1beta1.Member{Name: m.Name, Address: m.Address.String(), State: m.State.String()})
	}
	return found
}

func alive(all []v1beta1.Member) int32 {
	var count int32
	for _, m := range all {
		if m.State == members.Alive.String() {
			count++
		}
	}
	return count
}

// reportLinks lists the links that can carry announcements, by name.
func reportLinks(all []links.Link) []v1beta1.Link {
	var found []v1beta1.Link
	for _, l := range all {
		if !l.Usable() {
			continue
		}
		link := v1beta1.Link{Name: l.Name, MAC: l.MAC.String()}
		for _, prefix := range l.Prefixes {
			link.Addresses = append(link.Addresses, prefix.String())
		}
		found = append(found, link)
	}
	slices.SortFunc(found, func(a, b v1beta1.Link) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// kindProblems says which kinds the API server lacks.
func kindProblems(missing []string) []problem {
	var found []problem
	for _, kind := range missing {
		found = append(found, problem{
			Object: "customresourcedefinition/" + strings.ToLower(kind), Reason: v1beta1.ReasonKindMissing,
			Message: fmt.Sprintf("the API server does not know %s, so it is done without: %s", kind, crdRemedy),
		})
	}
	return found
}

// announceProblems lists the addresses that should be answered for here and are not.
func announceProblems(a announceState) []problem {
	var found []problem
	for _, no := range slices.Concat(a.Refused, a.Contested) {
		for _, key := range no.Verdict.Services {
			found = append(found, problem{"service/" + key, no.Reason, no.Message})
		}
	}
	for _, h := range a.Held {
		for _, state := range a.States {
			if state.Address != h.Announcement.Address {
				continue
			}
			found = append(found, stateProblems(h.Verdict, state)...)
		}
	}
	return found
}

// nobodyProblems lists the Services with an address that no node announces, each with why this one cannot, sorted.
func nobodyProblems(verdicts []Verdict) []problem {
	var found []problem
	for _, v := range verdicts {
		for _, key := range v.Services {
			if v.Owner == "" {
				found = append(found, problem{"service/" + key, v.Reason, v.Message})
			}
		}
	}
	slices.SortFunc(found, compareProblems)
	return slices.Compact(found) // the families of one Service may lack the same
}

func stateProblems(v Verdict, state l2.State) []problem {
	var found []problem
	for _, key := range v.Services {
		if state.Problem != "" && !state.Handed {
			found = append(found, problem{"service/" + key, v1beta1.ReasonLinkUnusable,
				fmt.Sprintf("%s is not answered for on %s: %s", state.Address, state.Link, state.Problem)})
		}
	}
	return found
}

// readiness is the Ready condition of a Speaker, but for its time of transition.
func readiness(f *forwardState, a *announceState) metav1.Condition {
	ready := metav1.Condition{Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse}
	switch {
	case f == nil || a == nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionUnknown, v1beta1.ReasonPending, "the speaker has just started"
	case f.LastError != "":
		ready.Reason, ready.Message = v1beta1.ReasonForwardingFailed, f.LastError
	case a.Error != "":
		ready.Reason, ready.Message = v1beta1.ReasonAnnouncingFailed, a.Error
	default:
		ready.Status, ready.Reason = metav1.ConditionTrue, v1beta1.ReasonReady
		ready.Message = fmt.Sprintf("%d addresses announced; %s", len(a.Held), f.Message)
	}
	return ready
}
