// Package v1beta1 has the types by which MetalLB would hand its BGP sessions to FRR-K8s.
//
// The real module is not to be had from the module proxy, and the sandbox announces addresses by
// ARP only: nothing here is ever filled or sent. It holds what MetalLB's sources name, no more, and
// registers no kind, so that an attempt at BGP fails at once instead of doing nothing in silence.
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// AddToScheme registers nothing.
func AddToScheme(*runtime.Scheme) error { return nil }

// FRRConfiguration is one node's wish.
type FRRConfiguration struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	Spec FRRConfigurationSpec
}

// DeepCopy copies shallowly: there is nothing below.
func (c *FRRConfiguration) DeepCopy() *FRRConfiguration {
	other := *c
	return &other
}

// DeepCopyObject makes the type a Kubernetes object.
func (c *FRRConfiguration) DeepCopyObject() runtime.Object { return c.DeepCopy() }

// FRRConfigurationSpec names the node and its BGP.
type FRRConfigurationSpec struct {
	BGP          BGPConfig
	NodeSelector metav1.LabelSelector
}

// DeepCopyInto copies shallowly.
func (s *FRRConfigurationSpec) DeepCopyInto(other *FRRConfigurationSpec) { *other = *s }

// BGPConfig is all routers of a node.
type BGPConfig struct {
	Routers     []Router
	BFDProfiles []BFDProfile
}

// Router is one BGP speaker.
type Router struct {
	ASN       uint32
	ID        string
	VRF       string
	Neighbors []Neighbor
	Prefixes  []string
}

// DynamicASNMode says how a neighbour's number is found.
type DynamicASNMode string

// Neighbor is one BGP session.
type Neighbor struct {
	Address                string
	Interface              string
	ASN                    uint32
	DynamicASN             DynamicASNMode
	Port                   *uint16
	HoldTime               *metav1.Duration
	KeepaliveTime          *metav1.Duration
	ConnectTime            *metav1.Duration
	BFDProfile             string
	EnableGracefulRestart  bool
	EBGPMultiHop           bool
	DualStackAddressFamily bool
	DisableMP              bool
	ToAdvertise            Advertise
	Password               string
	PasswordSecret         SecretReference
}

// SecretReference points at a Secret.
type SecretReference struct {
	Name      string
	Namespace string
}

// Advertise is what a neighbour is told.
type Advertise struct {
	Allowed                   AllowedOutPrefixes
	PrefixesWithLocalPref     []LocalPrefPrefixes
	PrefixesWithCommunity     []CommunityPrefixes
	PrefixesWithAsPathPrepend []AsPathPrependPrefixes
}

// AllowedOutPrefixes are the prefixes a neighbour may hear of.
type AllowedOutPrefixes struct{ Prefixes []string }

// LocalPrefPrefixes share a local preference.
type LocalPrefPrefixes struct {
	Prefixes  []string
	LocalPref uint32
}

// CommunityPrefixes share a community.
type CommunityPrefixes struct {
	Prefixes  []string
	Community string
}

// AsPathPrependPrefixes share a number of prepended hops.
type AsPathPrependPrefixes struct {
	Prefixes      []string
	AsPathPrepend uint8
}

// BFDProfile tunes the detection of a dead neighbour.
type BFDProfile struct {
	Name             string
	ReceiveInterval  *uint32
	TransmitInterval *uint32
	DetectMultiplier *uint32
	EchoInterval     *uint32
	MinimumTTL       *uint32
	EchoMode         *bool
	PassiveMode      *bool
}
