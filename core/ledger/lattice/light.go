package lattice

// What a wallet and a node say to each other: as packets between two cores of one
// machine, or over the node's RPC. All of it may be said again at any time.

// Follow asks the node to say how an account is, now and whenever that changes.
type Follow struct{ Account Key }

// State answers Follow. An account that has no block yet is all zero but for its
// key and what waits for it.
type State struct {
	Account        Key
	Frontier       Hash   // its newest block
	Height         uint64 // how many it has
	Confirmed      uint64 // how many of them are cemented
	Representative Key
	Balance        Raw          // after the newest block
	Receivable     []Receivable // by cemented sends only; at most MaxReceivable
}

// MaxReceivable bounds what State lists.
const MaxReceivable = 256

// A Receivable is what a cemented send has left for an account.
type Receivable struct {
	Source Hash // the send
	From   Key
	Amount Raw
}

// Submit hands a signed block to the node. If its work is not enough the node does
// it: work is not signed. The answer is Rejected, or Final once the block is
// cemented; until then the wallet asks again.
type Submit struct{ Block Block }

// Rejected says that a block cannot become part of the ledger as it is.
type Rejected struct {
	Hash Hash
	Why  Refusal
}

// Final says that a block is cemented, with what shows it to anybody.
type Final struct {
	Block    Block
	Previous Block // the account's block before; zero for its first
	Proof    Certificate
}

// Refusal is why a block is not taken, in the words of Nano's RPC.
type Refusal string

const (
	BadSignature    Refusal = "Bad signature"
	BadWork         Refusal = "Block work is less than threshold"
	GapPrevious     Refusal = "Gap previous block"
	GapSource       Refusal = "Gap source block"
	Old             Refusal = "Old block"
	Fork            Refusal = "Fork"
	NegativeSpend   Refusal = "Negative spend"
	Unreceivable    Refusal = "Unreceivable"
	BalanceWrong    Refusal = "Balance and amount delta do not match"
	RepWrong        Refusal = "Representative is not valid for this block"
	OpenedBurn      Refusal = "Burning account"
	NoBlock         Refusal = "Block not found"
	Busy            Refusal = "The node's queue is full; try again"
	TooManyUnproven Refusal = "Too many blocks wait for their certificate; try again"
)
