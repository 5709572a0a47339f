package v1beta1

// Types of conditions. Those on Services carry the group as a prefix, because the Service's conditions belong to
// everybody.
const (
	// ConditionReady says whether an object does what it says.
	ConditionReady = "Ready"
	// ConditionOverlaps says on a pool whether it lost addresses to an earlier pool that has them too.
	ConditionOverlaps = "Overlaps"
	// ConditionEstablished says on a BGPPeer whether every node that should has a session with it.
	ConditionEstablished = "Established"
	// ConditionDraining says on a pool whether Services hold addresses that it gave and would not give today.
	ConditionDraining = "Draining"

	// ConditionAllocated says on a Service whether it has the addresses it asks for.
	ConditionAllocated = Group + "/Allocated"
	// ConditionAnnounced says on a Service whether the network sends its addresses to a node, and to which.
	ConditionAnnounced = Group + "/Announced"
)

// FinalizerPoolInUse stays on a pool for as long as Services hold addresses of it.
const FinalizerPoolInUse = Group + "/pool-in-use"

// Reasons. A condition, the Event beside it, metrics and logs carry the same one, and each has a page in docs/reasons.
const (
	// ReasonPending means nobody has looked at the object yet.
	ReasonPending = "Pending"

	// ReasonAddressAllocated means the Service has every address it asks for.
	ReasonAddressAllocated = "AddressAllocated"
	// ReasonAddressKept means the Service has its addresses, but would not get one of them today: the pool shrank, is
	// gone, or its rules changed. Addresses never move by themselves, so it stays until the Service lets it go.
	ReasonAddressKept = "AddressKept"
	// ReasonAddressReleased means the Service gave its addresses back, because it is no longer of type LoadBalancer.
	ReasonAddressReleased = "AddressReleased"
	// ReasonNoPool means there is no pool at all, or none of the name asked for.
	ReasonNoPool = "NoPool"
	// ReasonPoolExhausted means a pool that would serve the Service has no address left.
	ReasonPoolExhausted = "PoolExhausted"
	// ReasonPoolNotAllowed means a rule of the pools keeps the Service out: serviceAllocation or autoAssign.
	ReasonPoolNotAllowed = "PoolNotAllowed"
	// ReasonAddressNotInPool means the address asked for lies in no pool, or not in the pool asked for.
	ReasonAddressNotInPool = "AddressNotInPool"
	// ReasonAddressInUse means another Service holds the address asked for and neither offers to share.
	ReasonAddressInUse = "AddressInUse"
	// ReasonAddressReserved means the address asked for is reserved for another Service.
	ReasonAddressReserved = "AddressReserved"
	// ReasonAddressCooling means the address asked for was given back by another Service less than the pool's cooldown
	// ago.
	ReasonAddressCooling = "AddressCooling"
	// ReasonSharingRefused means the Service asks to share the address, but not on terms its holder agrees with.
	ReasonSharingRefused = "SharingRefused"
	// ReasonFamilyUnavailable means no pool open to the Service has addresses of a family it needs.
	ReasonFamilyUnavailable = "FamilyUnavailable"
	// ReasonRequestInvalid means an annotation or field of the Service cannot be understood.
	ReasonRequestInvalid = "RequestInvalid"
	// ReasonClassNotOurs means the Service's loadBalancerClass is for another load balancer. Such Services are left
	// alone entirely: the reason appears in explanations, never on the Service.
	ReasonClassNotOurs = "ClassNotOurs"
	// ReasonStatusOwnedByOther means another controller writes the Service's status.loadBalancer, so Fairlead keeps off.
	ReasonStatusOwnedByOther = "StatusOwnedByOther"

	// ReasonAnnounced means every address of the Service is announced by a node.
	ReasonAnnounced = "Announced"
	// ReasonNotAnnounced means no node announces one of the Service's addresses.
	ReasonNotAnnounced = "NotAnnounced"
	// ReasonNoSpeaker means no speaker runs, so nobody can announce anything.
	ReasonNoSpeaker = "NoSpeaker"

	// ReasonReady means an object is used as it is written.
	ReasonReady = "Ready"
	// ReasonRangeInvalid means a range cannot be used: it ends before it begins, or is not a range at all.
	ReasonRangeInvalid = "RangeInvalid"
	// ReasonRangeRefused means a range holds an address of a node, or addresses of Services or pods.
	ReasonRangeRefused = "RangeRefused"
	// ReasonReservationInvalid means a reservation can never be honoured: its address is not in the pool.
	ReasonReservationInvalid = "ReservationInvalid"
	// ReasonSelectorInvalid means a label selector cannot be understood; it matches nothing.
	ReasonSelectorInvalid = "SelectorInvalid"
	// ReasonPoolEmpty means no address is left of a pool after exclusions, refusals and overlaps.
	ReasonPoolEmpty = "PoolEmpty"
	// ReasonOverlap means an earlier pool, by name, has some of the same addresses; it keeps them.
	ReasonOverlap = "Overlap"
	// ReasonNoOverlap means no other pool has the same addresses.
	ReasonNoOverlap = "NoOverlap"
	// ReasonDraining means Services hold addresses of the pool that it would not give today.
	ReasonDraining = "Draining"
	// ReasonNotDraining means every address that Services hold from the pool is one it would give today.
	ReasonNotDraining = "NotDraining"
	// ReasonPoolNotFound means an advertisement names a pool that does not exist.
	ReasonPoolNotFound = "PoolNotFound"

	// ReasonNoAdvertisement means advertisements select the address's pool, but none selects the Service.
	ReasonNoAdvertisement = "NoAdvertisement"
	// ReasonNodeNotSelected means no advertisement of the address selects the node.
	ReasonNodeNotSelected = "NodeNotSelected"
	// ReasonNoInterface means the node has none of the interfaces the address could be announced on.
	ReasonNoInterface = "NoInterface"
	// ReasonAnnouncedByBGP means only BGP advertisements select the address's pool, so Layer 2 leaves it alone.
	ReasonAnnouncedByBGP = "AnnouncedByBGP"
)

// Reasons that are about BGP.
const (
	// ReasonSettingInvalid means a setting cannot be used although the API server took it.
	ReasonSettingInvalid = "SettingInvalid"
	// ReasonBFDProfileNotFound means a BGPPeer names a BFDProfile that does not exist or cannot be used.
	ReasonBFDProfileNotFound = "BFDProfileNotFound"
	// ReasonCannotListen means a node cannot listen where a BGPPeer wants it to.
	ReasonCannotListen = "CannotListen"
	// ReasonDuplicatePeer means another BGPPeer, earlier by name, is the same router on the same nodes.
	ReasonDuplicatePeer = "DuplicatePeer"
	// ReasonDuplicateCommunity means another Community object, earlier by name, gives the name to another community.
	ReasonDuplicateCommunity = "DuplicateCommunity"
	// ReasonCommunityNotFound means a BGPAdvertisement uses a name that stands for no community.
	ReasonCommunityNotFound = "CommunityNotFound"
	// ReasonPeerNotFound means a BGPAdvertisement names a BGPPeer that does not exist.
	ReasonPeerNotFound = "PeerNotFound"
	// ReasonAggregationRefused means a prefix would reach beyond the pool, so its addresses are announced one by one.
	ReasonAggregationRefused = "AggregationRefused"
	// ReasonEstablished means every node that should has an established session with the peer.
	ReasonEstablished = "Established"
	// ReasonSessionDown means a node has no established session with the peer.
	ReasonSessionDown = "SessionDown"
	// ReasonNoSession means no node should have a session with the peer: its nodeSelectors select none with a speaker.
	ReasonNoSession = "NoSession"
	// ReasonNoPeer means BGP advertisements select the address, but the node has no session with a peer they tell.
	ReasonNoPeer = "NoPeer"
	// ReasonNoEndpoints means no endpoint of the Service is ready anywhere.
	ReasonNoEndpoints = "NoEndpoints"
	// ReasonNodeDraining means the node is being drained, and its routes are withdrawn because others have them.
	ReasonNodeDraining = "NodeDraining"
	// ReasonAggregateWithheld means a node announces addresses one by one, because their prefix would attract traffic
	// that it cannot serve.
	ReasonAggregateWithheld = "AggregateWithheld"
)

// Reasons that speakers give.
const (
	// ReasonNodeExcluded means the node must not announce: it has the label that excludes it from load balancers, or
	// its network is not available.
	ReasonNodeExcluded = "NodeExcluded"
	// ReasonNoLocalEndpoint means the Service has externalTrafficPolicy Local and no ready endpoint on the node.
	ReasonNoLocalEndpoint = "NoLocalEndpoint"
	// ReasonSplit means a speaker went silent but its node still answers for the address, so nobody takes it.
	ReasonSplit = "Split"
	// ReasonAddressConflict means another host on the network answers for the address. Services say it, too.
	ReasonAddressConflict = "AddressConflict"
	// ReasonLinkUnusable means the address cannot be answered for on one of the links it should be.
	ReasonLinkUnusable = "LinkUnusable"
	// ReasonFrontendTaken means another Service has the same address, protocol and port, and had it first.
	ReasonFrontendTaken = "FrontendTaken"
	// ReasonBackendSelectionInvalid means the Service's annotation backend-selection has a value that nobody knows.
	ReasonBackendSelectionInvalid = "BackendSelectionInvalid"
	// ReasonHealthCheckFailed means a port for health checks could not be opened.
	ReasonHealthCheckFailed = "HealthCheckFailed"
	// ReasonKernelSetting means a setting of the node's kernel is not what forwarding needs.
	ReasonKernelSetting = "KernelSetting"
	// ReasonKindMissing means the API server does not serve a kind of this version of Fairlead.
	ReasonKindMissing = "KindMissing"
	// ReasonForwardingFailed means the kernel did not take the last change of the forwarding table.
	ReasonForwardingFailed = "ForwardingFailed"
	// ReasonAnnouncingFailed means the last round of announcing ended with an error.
	ReasonAnnouncingFailed = "AnnouncingFailed"
)
