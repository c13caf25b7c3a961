package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// A Feature is the even number of a pair of bits (BOLT 9): that bit says that
// the feature is required, the odd one above it that it is supported.
type Feature uint32

// The features of BOLT 9, and of bLIP 3 (keysend). Those marked "assumed" are
// taken for granted whether a peer says so or not.
const (
	DataLossProtect       Feature = 0 // assumed
	UpfrontShutdownScript Feature = 4
	GossipQueries         Feature = 6
	VarOnion              Feature = 8 // assumed
	GossipQueriesEx       Feature = 10
	StaticRemoteKey       Feature = 12 // assumed
	PaymentSecret         Feature = 14 // assumed
	BasicMPP              Feature = 16
	LargeChannel          Feature = 18
	Anchors               Feature = 22
	RouteBlinding         Feature = 24
	ShutdownAnySegwit     Feature = 26
	DualFund              Feature = 28
	Quiesce               Feature = 34
	AttributionData       Feature = 36
	OnionMessages         Feature = 38
	ZeroFeeCommitments    Feature = 40
	ProvideStorage        Feature = 42
	ChannelTypes          Feature = 44 // assumed
	SCIDAlias             Feature = 46
	PaymentMetadata       Feature = 48
	ZeroConf              Feature = 50
	Keysend               Feature = 54
	SimpleClose           Feature = 60
	Splice                Feature = 62
	SimpleTaproot         Feature = 80
)

// Optional is the odd bit of f: supported, not required.
func (f Feature) Optional() Feature { return f | 1 }

// name is what the BOLTs call f.
func (f Feature) name() string {
	switch f &^ 1 {
	case DataLossProtect:
		return "option_data_loss_protect"
	case UpfrontShutdownScript:
		return "option_upfront_shutdown_script"
	case GossipQueries:
		return "gossip_queries"
	case VarOnion:
		return "var_onion_optin"
	case GossipQueriesEx:
		return "gossip_queries_ex"
	case StaticRemoteKey:
		return "option_static_remotekey"
	case PaymentSecret:
		return "payment_secret"
	case BasicMPP:
		return "basic_mpp"
	case LargeChannel:
		return "option_support_large_channel"
	case Anchors:
		return "option_anchors"
	case RouteBlinding:
		return "option_route_blinding"
	case ShutdownAnySegwit:
		return "option_shutdown_anysegwit"
	case DualFund:
		return "option_dual_fund"
	case Quiesce:
		return "option_quiesce"
	case AttributionData:
		return "option_attribution_data"
	case OnionMessages:
		return "option_onion_messages"
	case ZeroFeeCommitments:
		return "zero_fee_commitments"
	case ProvideStorage:
		return "option_provide_storage"
	case ChannelTypes:
		return "option_channel_type"
	case SCIDAlias:
		return "option_scid_alias"
	case PaymentMetadata:
		return "option_payment_metadata"
	case ZeroConf:
		return "option_zeroconf"
	case Keysend:
		return "keysend"
	case SimpleClose:
		return "option_simple_close"
	case Splice:
		return "option_splice"
	case SimpleTaproot:
		return "option_simple_taproot"
	}
	return ""
}

// String is the bit, and its name where it has one: "17 basic_mpp".
func (f Feature) String() string {
	return strings.TrimSpace(strconv.FormatUint(uint64(f), 10) + " " + f.name())
}

// Features are the bytes of a bit vector as they are on the wire, big-endian:
// bit 0 is the lowest bit of the last byte. The type is a string so that it is a
// value: it compares, and nobody else can change it. Zero bytes in front are
// kept, since a signature may cover them; Minimal cuts them.
type Features string

// The channel types a node of today makes: exactly these bits (BOLT 2).
const (
	// ChannelStaticRemoteKey is {option_static_remotekey}.
	ChannelStaticRemoteKey Features = "\x10\x00"
	// ChannelAnchors is {option_static_remotekey, option_anchors}.
	ChannelAnchors Features = "\x40\x10\x00"
)

// maxBit is the highest bit that fits a message.
const maxBit = MaxMessage*8 - 1

// NewFeatures has the bits given.
func NewFeatures(bits ...Feature) Features { return Features("").With(bits...) }

// Has reports whether exactly this bit is set.
func (fs Features) Has(bit Feature) bool {
	i := len(fs) - 1 - int(bit/8)
	return i >= 0 && fs[i]>>(bit%8)&1 == 1
}

// Requires reports whether the even bit of f is set.
func (fs Features) Requires(f Feature) bool { return fs.Has(f &^ 1) }

// Offers reports whether either bit of f is set.
func (fs Features) Offers(f Feature) bool { return fs.Has(f&^1) || fs.Has(f|1) }

// With is fs and more bits, in the fewest bytes. A bit that fits no message is
// the caller's bug.
func (fs Features) With(bits ...Feature) Features {
	set := []byte(fs)
	for _, bit := range bits {
		if bit > maxBit {
			panic(fmt.Sprintf("wire: feature bit %d fits no message", bit))
		}
		if grow := int(bit/8) + 1 - len(set); grow > 0 {
			set = append(make([]byte, grow), set...)
		}
		set[len(set)-1-int(bit/8)] |= 1 << (bit % 8)
	}
	return Features(set).Minimal()
}

// Minimal is fs in the fewest bytes.
func (fs Features) Minimal() Features { return Features(strings.TrimLeft(string(fs), "\x00")) }

// Equal reports whether both have the same bits.
func (fs Features) Equal(other Features) bool { return fs.Minimal() == other.Minimal() }

// Or has the bits of both.
func (fs Features) Or(other Features) Features {
	long, short := []byte(fs), other
	if len(long) < len(short) {
		long, short = []byte(other), fs
	}
	for i := range len(short) {
		long[len(long)-len(short)+i] |= short[i]
	}
	return Features(long).Minimal()
}

// MaxListed is how many features a list of faults names; a peer can claim half a
// million.
const MaxListed = 16

// Bits are the bits that are set, lowest first, at most limit of them.
func (fs Features) Bits(limit int) (bits []Feature) {
	for i := range Feature(len(fs) * 8) {
		if len(bits) == limit {
			return bits
		}
		if fs.Has(i) {
			bits = append(bits, i)
		}
	}
	return bits
}

// Unknown lists what fs requires and known does not offer, at most MaxListed
// features. BOLT 1 closes the connection if there is any.
func (fs Features) Unknown(known Features) (unknown []Feature) {
	for f := Feature(0); f < Feature(len(fs)*8) && len(unknown) < MaxListed; f += 2 {
		if fs.Has(f) && !known.Offers(f) {
			unknown = append(unknown, f)
		}
	}
	return unknown
}

// Check is an error if a feature of fs lacks one that it depends on (BOLT 9).
// Features that are assumed are never lacking.
func (fs Features) Check() error {
	for _, pair := range [...]struct{ feature, needs Feature }{
		{GossipQueriesEx, GossipQueries},
		{ZeroConf, SCIDAlias},
		{SimpleClose, ShutdownAnySegwit},
	} {
		if fs.Offers(pair.feature) && !fs.Offers(pair.needs) {
			return fmt.Errorf("feature %v needs feature %v, which is not offered", pair.feature, pair.needs)
		}
	}
	return nil
}

// String lists the bits.
func (fs Features) String() string {
	bits := fs.Bits(MaxListed + 1)
	var text []string
	for _, bit := range bits[:min(len(bits), MaxListed)] {
		text = append(text, bit.String())
	}
	if len(bits) > MaxListed {
		text = append(text, "...")
	}
	return "{" + strings.Join(text, ", ") + "}"
}
