package main

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// routing are the kinds that are about BGP.
type routing struct {
	peers          []v1beta1.BGPPeer
	advertisements []v1beta1.BGPAdvertisement
	profiles       []v1beta1.BFDProfile
	communities    []v1beta1.Community
}

// routingChange is what to write into the status of an object about BGP.
type routingChange struct {
	kind   string
	object client.Object // with its new status
	events []event
}

// changeRouting returns the objects about BGP whose status says something else than it should.
func changeRouting(w world) []routingChange {
	var changes []routingChange
	for _, peer := range w.routing.peers {
		if change, ok := changePeer(w, peer); ok {
			changes = append(changes, change)
		}
	}
	for _, object := range w.routing.advertisements {
		if events, ok := w.setReady(&object.Status.Conditions, "bgpadvertisement/"+object.Name, "the advertisement is in use", object.Generation); ok {
			changes = append(changes, routingChange{"BGPAdvertisement", &object, events})
		}
	}
	for _, object := range w.routing.profiles {
		fine := "the profile can be used"
		if object.Spec.EchoMode != nil && *object.Spec.EchoMode {
			fine += "; echoMode has no effect: paths are watched with control packets alone"
		}
		if events, ok := w.setReady(&object.Status.Conditions, "bfdprofile/"+object.Name, fine, object.Generation); ok {
			changes = append(changes, routingChange{"BFDProfile", &object, events})
		}
	}
	for _, object := range w.routing.communities {
		if events, ok := w.setReady(&object.Status.Conditions, "community/"+object.Name, "the names can be used", object.Generation); ok {
			changes = append(changes, routingChange{"Community", &object, events})
		}
	}
	return changes
}

// setReady replaces the condition Ready of an object; ok is false if it is as it was. The slice is replaced, not changed.
func (w world) setReady(conditions *[]metav1.Condition, object, fine string, generation int64) (events []event, ok bool) {
	ready := readyCondition(problemsOf(w.problems, object), fine)
	merged, events := mergeConditions(*conditions, []metav1.Condition{ready}, generation, w.now)
	if equality.Semantic.DeepEqual(*conditions, merged) {
		return nil, false
	}
	*conditions = merged
	return events, true
}

// changePeer compares what a peer's status says with what it should.
func changePeer(w world, peer v1beta1.BGPPeer) (routingChange, bool) {
	want := v1beta1.BGPPeerStatus{}
	var established metav1.Condition
	want.Nodes, want.Established, established = w.sessions(peer)
	ready := readyCondition(problemsOf(w.problems, "bgppeer/"+peer.Name), "the peer is in use")
	var events []event
	want.Conditions, events = mergeConditions(peer.Status.Conditions, []metav1.Condition{ready, established}, peer.Generation, w.now)
	if equality.Semantic.DeepEqual(peer.Status, want) {
		return routingChange{}, false
	}
	peer.Status = want
	return routingChange{"BGPPeer", &peer, events}, true
}

// sessions says on how many nodes there should be a session with a peer, on how many there is, and what to say of it.
func (w world) sessions(peer v1beta1.BGPPeer) (nodes, established int32, condition metav1.Condition) {
	var down []string
	for _, speaker := range w.speakers {
		i := slices.IndexFunc(speaker.Status.Peers, func(s v1beta1.PeerSession) bool { return s.Name == peer.Name })
		if i < 0 {
			continue
		}
		nodes++
		session := speaker.Status.Peers[i]
		switch {
		case w.silent[speaker.Name]:
			down = append(down, speaker.Name+": its speaker is silent")
		case session.State == "Established":
			established++
		default:
			down = append(down, strings.TrimSuffix(fmt.Sprintf("%s: %s: %s", speaker.Name, session.State, session.Reason), ": "))
		}
	}
	slices.Sort(down) // the cache has no order, and another message would be another write
	condition = metav1.Condition{Type: v1beta1.ConditionEstablished, Status: metav1.ConditionFalse}
	switch {
	case len(w.speakers) == 0:
		condition.Reason, condition.Message = v1beta1.ReasonNoSpeaker, "no speaker has reported: see whether the pods of the DaemonSet fairlead-speaker run"
	case nodes == 0:
		condition.Reason, condition.Message = v1beta1.ReasonNoSession, "no node should have a session with this peer: its nodeSelectors select no node with a speaker"
	case established == nodes:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, v1beta1.ReasonEstablished, fmt.Sprintf("established on %s", allNodes(nodes))
	default:
		condition.Reason, condition.Message = v1beta1.ReasonSessionDown, downText(nodes, established, down)
	}
	if condition.Status == metav1.ConditionFalse && w.now.Sub(peer.CreationTimestamp.Time) < patience {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionUnknown, v1beta1.ReasonPending, "waiting for the sessions"
	}
	return nodes, established, condition
}

func allNodes(n int32) string {
	if n == 1 {
		return "the one node that should"
	}
	return fmt.Sprintf("all %d nodes", n)
}

func downText(nodes, established int32, down []string) string {
	const most = 5
	if len(down) > most {
		down = append(down[:most:most], fmt.Sprintf("and %d more", len(down)-most))
	}
	return fmt.Sprintf("established on %d of %d nodes; %s", established, nodes, strings.Join(down, "; "))
}
