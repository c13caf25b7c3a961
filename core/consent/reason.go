package consent

import "fmt"

// A Reason is why there is no consent. Its number is part of the protocol.
type Reason uint8

// The reasons, in the order in which a proposal is checked.
const (
	ReasonNone        Reason = iota
	ReasonRollback           // the signer's disk is older than its counter
	ReasonBusy               // too many consents wait for the counter
	ReasonChanged            // an ID again with other content
	ReasonMalformed          // not a PSBT as BIP 174 and 371 say
	ReasonVersion            // a PSBT of version 2 (BIP 370)
	ReasonSize               // too many inputs, outputs or bytes
	ReasonField              // a field that a signer must not skip, or a signed input
	ReasonLockTime           // valid only in the future
	ReasonNothing            // no input is the signer's
	ReasonMine               // an input's key does not give its script
	ReasonForeign            // another's input, and the policy takes none
	ReasonAmount             // an input without, or with another, previous transaction
	ReasonSighash            // a signature that would not cover everything
	ReasonProof              // a proof is missing or leads to another block
	ReasonNeedHeaders        // the block is not in the signer's headers: propose again
	ReasonDepth              // the coin is too fresh
	ReasonHeaders            // headers break a rule
	ReasonChange             // an output's key does not give its script
	ReasonOrder              // an output is not what its order says
	ReasonShared             // two orders name one output
	ReasonNotAsked           // the device did not ask for this order
	ReasonPaid               // the order has a consent already
	ReasonOutput             // an output is neither change nor an order's
	ReasonPayee              // the payee is not allowed
	ReasonFresh              // in a joint transaction the payee's script is not of this order alone
	ReasonReplayed           // the transaction has a consent under another ID
	ReasonReplacement        // what it replaces is unknown, other or does not conflict
	ReasonFee                // the fee is above its cap
	ReasonFeeRate            // the fee rate is above its cap
	ReasonPerPayment         // an order is above its cap
	ReasonPerDay             // 24 hours' spending would be above its cap
	reasonEnd
)

var reasonNames = [reasonEnd]string{
	"none", "rollback", "busy", "changed", "malformed", "version", "size", "field", "lock time", "nothing", "mine",
	"foreign", "amount", "sighash", "proof", "need headers", "depth", "headers", "change", "order", "shared",
	"not asked", "paid", "output", "payee", "fresh", "replayed", "replacement", "fee", "fee rate", "per payment", "per day",
}

// String names the reason in a word or two.
func (r Reason) String() string {
	if r < reasonEnd {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Passes reports whether the same proposal may be consented to later: when the
// headers are there, the coin is deeper, the day is over or the counter is done.
func (r Reason) Passes() bool {
	switch r {
	case ReasonBusy, ReasonNeedHeaders, ReasonDepth, ReasonPerDay, ReasonLockTime, ReasonNotAsked:
		return true
	}
	return false
}

// A refused proposal is an error that carries its reason.
func (m Refusal) Error() string { return "consent refused: " + m.Reason.String() + ": " + m.Text }

// refuse makes the error of a check.
func refuse(why Reason, format string, args ...any) error {
	return &Refusal{Reason: why, Text: fmt.Sprintf(format, args...)}
}
