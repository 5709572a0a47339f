// Package v1beta1 holds what users write and read: the kinds of fairlead.dev/v1beta1, their validation rules, and the
// names of conditions and reasons.
//
// It holds no logic: what the fields mean is decided in package config, and who writes the status is said at each kind.
// The kinds and field names are MetalLB's wherever MetalLB has the thing.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.dev
package v1beta1
