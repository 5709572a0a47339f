package main

// What the controller may do. controller-gen turns these markers into config/rbac/controller_role.yaml, and a test compares
// that with the chart. The old kind of Events is what leader election writes.
//
// +kubebuilder:rbac:groups="",resources=services;nodes;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch;update
// +kubebuilder:rbac:groups=networking.k8s.io,resources=servicecidrs,verbs=get;list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools;l2advertisements;bgppeers;bgpadvertisements;bfdprofiles;communities;speakers,verbs=get;list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools/status;l2advertisements/status;bgppeers/status;bgpadvertisements/status;bfdprofiles/status;communities/status,verbs=patch;update
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=secrets,resourceNames=fairlead-gossip,verbs=get
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=fairlead-system,resources=leases,verbs=create;get;update
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=events,verbs=create;patch
