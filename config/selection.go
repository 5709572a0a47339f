package config

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1beta1"
)

// keyBackendSelection is the annotation on a Service of any type that says how one of its endpoints is chosen.
const keyBackendSelection = "backend-selection"

// Selection says how an endpoint is chosen for a new connection to a Service.
type Selection uint8

const (
	// Random chooses evenly, anew for each connection.
	Random Selection = iota
	// ConsistentHash chooses by the client's address and port, on every node alike.
	ConsistentHash
)

// ReadSelection reads how a Service's endpoints are chosen: at random if it does not say. A value that nobody knows
// is random, too, with a problem.
func ReadSelection(service *corev1.Service) (Selection, []Problem) {
	switch value := strings.TrimSpace(annotation(service, keyBackendSelection)); value {
	case "", "random":
		return Random, nil
	case "consistent-hash":
		return ConsistentHash, nil
	default:
		p := invalid(service, "%s is %q, so endpoints are chosen at random: write random or consistent-hash", keyBackendSelection, value)
		p.Reason = v1beta1.ReasonBackendSelectionInvalid
		return Random, []Problem{p}
	}
}
