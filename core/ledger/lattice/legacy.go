package lattice

// Nano's ledger began with four kinds of blocks, which state blocks have replaced,
// and its genesis is one. Our networks have none; these hashes are for who reads
// Nano's.

// Types of blocks on the wire.
const (
	typeNone  = 1 // ends a list of blocks, and marks votes by hash
	typeState = 6
)

// SendHash is the hash of a legacy send.
func SendHash(previous Hash, destination Key, balance Raw) Hash {
	return sum(previous[:], destination[:], balance.Append(nil))
}

// ReceiveHash is the hash of a legacy receive.
func ReceiveHash(previous, source Hash) Hash { return sum(previous[:], source[:]) }

// OpenHash is the hash of a legacy open.
func OpenHash(source Hash, representative, account Key) Hash {
	return sum(source[:], representative[:], account[:])
}

// ChangeHash is the hash of a legacy change.
func ChangeHash(previous Hash, representative Key) Hash { return sum(previous[:], representative[:]) }

// epochs are the links of blocks that upgrade an account.
var epochs = [...][32]byte{epoch("epoch v1 block"), epoch("epoch v2 block")}

func epoch(text string) (link [32]byte) {
	copy(link[:], text)
	return link
}

// EpochLink is the link of an upgrade to version 1 or 2.
func EpochLink(version int) [32]byte { return epochs[version-1] }

// IsEpochLink reports whether a block with this link upgrades an account.
func IsEpochLink(link [32]byte) bool { return link == epochs[0] || link == epochs[1] }
