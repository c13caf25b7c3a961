package onion

import "fmt"

// A Code names a failure (BOLT 4, "Failure Messages"). Its high bits are flags.
type Code uint16

// Flags of a Code.
const (
	FlagBadOnion Code = 0x8000 // the next hop could not read the onion
	FlagPerm     Code = 0x4000 // the same again will fail again
	FlagNode     Code = 0x2000 // of the whole node, otherwise of one channel
	FlagUpdate   Code = 0x1000 // a channel_update is enclosed
)

// Codes of BOLT 4.
const (
	CodeInvalidRealm                       = FlagPerm | 1
	CodeTemporaryNodeFailure               = FlagNode | 2
	CodePermanentNodeFailure               = FlagPerm | FlagNode | 2
	CodeRequiredNodeFeatureMissing         = FlagPerm | FlagNode | 3
	CodeInvalidOnionVersion                = FlagBadOnion | FlagPerm | 4
	CodeInvalidOnionHMAC                   = FlagBadOnion | FlagPerm | 5
	CodeInvalidOnionKey                    = FlagBadOnion | FlagPerm | 6
	CodeTemporaryChannelFailure            = FlagUpdate | 7
	CodePermanentChannelFailure            = FlagPerm | 8
	CodeRequiredChannelFeatureMissing      = FlagPerm | 9
	CodeUnknownNextPeer                    = FlagPerm | 10
	CodeAmountBelowMinimum                 = FlagUpdate | 11
	CodeFeeInsufficient                    = FlagUpdate | 12
	CodeIncorrectCLTVExpiry                = FlagUpdate | 13
	CodeExpiryTooSoon                      = FlagUpdate | 14
	CodeUnknownPaymentDetails              = FlagPerm | 15 // incorrect_or_unknown_payment_details
	CodeFinalIncorrectCLTVExpiry      Code = 18
	CodeFinalIncorrectHTLCAmount      Code = 19
	CodeChannelDisabled                    = FlagUpdate | 20
	CodeExpiryTooFar                  Code = 21
	CodeInvalidOnionPayload                = FlagPerm | 22
	CodeMPPTimeout                    Code = 23
	CodeInvalidOnionBlinding               = FlagBadOnion | FlagPerm | 24
)

// Has reports whether c has all of flags.
func (c Code) Has(flags Code) bool { return c&flags == flags }

// String is BOLT 4's name of c.
func (c Code) String() string {
	switch c {
	case CodeInvalidRealm:
		return "invalid_realm"
	case CodeTemporaryNodeFailure:
		return "temporary_node_failure"
	case CodePermanentNodeFailure:
		return "permanent_node_failure"
	case CodeRequiredNodeFeatureMissing:
		return "required_node_feature_missing"
	case CodeInvalidOnionVersion:
		return "invalid_onion_version"
	case CodeInvalidOnionHMAC:
		return "invalid_onion_hmac"
	case CodeInvalidOnionKey:
		return "invalid_onion_key"
	case CodeTemporaryChannelFailure:
		return "temporary_channel_failure"
	case CodePermanentChannelFailure:
		return "permanent_channel_failure"
	case CodeRequiredChannelFeatureMissing:
		return "required_channel_feature_missing"
	case CodeUnknownNextPeer:
		return "unknown_next_peer"
	case CodeAmountBelowMinimum:
		return "amount_below_minimum"
	case CodeFeeInsufficient:
		return "fee_insufficient"
	case CodeIncorrectCLTVExpiry:
		return "incorrect_cltv_expiry"
	case CodeExpiryTooSoon:
		return "expiry_too_soon"
	case CodeUnknownPaymentDetails:
		return "incorrect_or_unknown_payment_details"
	case CodeFinalIncorrectCLTVExpiry:
		return "final_incorrect_cltv_expiry"
	case CodeFinalIncorrectHTLCAmount:
		return "final_incorrect_htlc_amount"
	case CodeChannelDisabled:
		return "channel_disabled"
	case CodeExpiryTooFar:
		return "expiry_too_far"
	case CodeInvalidOnionPayload:
		return "invalid_onion_payload"
	case CodeMPPTimeout:
		return "mpp_timeout"
	case CodeInvalidOnionBlinding:
		return "invalid_onion_blinding"
	}
	return fmt.Sprintf("failure code 0x%04x", uint16(c))
}
