package main

// What a speaker may do. controller-gen turns these markers into config/rbac/speaker_role.yaml, and a test compares that with
// the chart. Pods are those of the other speakers, whose addresses gossip needs.
// Secrets hold the key of gossip and the passwords of BGP peers, whose names users choose.
//
// +kubebuilder:rbac:groups="",resources=services;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=get;list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools;l2advertisements;bgppeers;bgpadvertisements;bfdprofiles;communities,verbs=get;list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers,verbs=create;get;list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers/status,verbs=patch;update
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=pods,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=secrets,verbs=get;list;watch
