package electrum

import (
	"errors"
	"fmt"
	"strings"
)

// A Reason is all that remains of a server's text. In December 2018 servers
// answered broadcasts with a page that sent people to a forged wallet, and the
// wallet showed it.
type Reason uint8

// The reasons that are told apart. Who needs more asks a node of his own.
const (
	Unspecified Reason = iota
	Conflict
	LowFee
	Dust
	MissingInputs
	NotYet
	BadScript
	NotStandard
	Unknown
	TooMuch
	Unsupported
)

var reasons = [...]string{
	Unspecified:   "it gives no reason that we know",
	Conflict:      "another transaction spends the same",
	LowFee:        "the fee is too low",
	Dust:          "an output is dust",
	MissingInputs: "an input is unknown or spent",
	NotYet:        "a lock time or a relative lock has not run out, or a reward is not ripe",
	BadScript:     "a script or a signature is wrong",
	NotStandard:   "it is not standard",
	Unknown:       "it does not know the transaction or the block",
	TooMuch:       "that is more than it serves",
	Unsupported:   "it does not know the method or the version",
}

// String is text of ours.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return reasons[Unspecified]
}

// signs are parts of what Bitcoin Core, btcd and the servers say.
var signs = []struct {
	part   string
	reason Reason
}{
	{"conflict", Conflict}, {"already spent", Conflict}, {"double spend", Conflict},
	{"min relay fee", LowFee}, {"insufficient fee", LowFee}, {"mempool min fee", LowFee}, {"insufficient priority", LowFee},
	{"dust", Dust},
	{"missingorspent", MissingInputs}, {"missing-inputs", MissingInputs}, {"missing inputs", MissingInputs}, {"orphan", MissingInputs}, {"non-existent", MissingInputs},
	{"non-final", NotYet}, {"non-bip68", NotYet}, {"premature", NotYet}, {"immature", NotYet}, {"sequence lock", NotYet}, {"not finalized", NotYet},
	{"script-verify", BadScript}, {"script verify", BadScript}, {"signature", BadScript}, {"failed to validate input", BadScript},
	{"no such", Unknown}, {"not found", Unknown}, {"not in block", Unknown},
	{"too large", TooMuch}, {"excessive", TooMuch}, {"limit", TooMuch},
	{"unknown method", Unsupported}, {"unsupported", Unsupported},
	{"nonstandard", NotStandard}, {"non-standard", NotStandard}, {"scriptpubkey", NotStandard},
}

// reasonOf looks for what it knows in a text and drops the text.
func reasonOf(code int, text string) Reason {
	switch code {
	case codeMethod:
		return Unsupported
	case codeTooMuch, codeBusy:
		return TooMuch
	}
	text = strings.ToLower(text[:min(len(text), 1000)])
	for _, s := range signs {
		if strings.Contains(text, s.part) {
			return s.reason
		}
	}
	return Unspecified
}

// A Fault is what a server answered instead of a result.
type Fault struct {
	Server string
	Method string // the one that was called
	Reason Reason
	Length int // of its text, in bytes
}

// Error names the server and has no word of it.
func (f *Fault) Error() string {
	return fmt.Sprintf("server %s refuses %s: %v (its text of %d bytes is not shown)", f.Server, f.Method, f.Reason, f.Length)
}

// A Kind of lie.
type Kind uint8

// The lies that can be proven.
const (
	BadReply   Kind = iota // not the protocol
	BadHeader              // a header that breaks the rules
	BadBranch              // a Merkle branch that does not lead to the header
	BadTx                  // not the transaction that was asked for
	Irrelevant             // a transaction that does not touch the script
	Withheld               // a history without a transaction that is in the chain
)

var kinds = [...]string{
	BadReply: "breaks the protocol", BadHeader: "shows a header that breaks the rules", BadBranch: "shows a forged branch",
	BadTx: "shows another transaction", Irrelevant: "shows a transaction that does not touch the script", Withheld: "withholds a transaction",
}

// A Lie is a claim that is proven false. Who told it is not asked for LiePause.
type Lie struct {
	Server string
	Kind   Kind
	Claim  string // what it said, in our words
	Truth  string // what is true
}

// Error names the server, the claim and the truth.
func (l *Lie) Error() string {
	return fmt.Sprintf("server %s %s: %s; %s", l.Server, kinds[l.Kind], l.Claim, l.Truth)
}

func lied(err error) bool { return errors.As(err, new(*Lie)) }

// A LowWork is a server on a branch that has less work than ours. It is not
// asked for histories until it comes over.
type LowWork struct {
	Server string
	Height int32 // of its tip
	Ours   int32 // height of our tip
}

// Error names both tips.
func (e *LowWork) Error() string {
	return fmt.Sprintf("server %s is on a branch with no more work than ours: its tip is at height %d, ours at %d", e.Server, e.Height, e.Ours)
}

var errStalled = errors.New("it does not answer in time")
