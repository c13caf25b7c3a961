package rail

import (
	"context"

	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
)

// A Sealer is a rail whose payment reveals a secret that the payee knows before: a
// preimage. What is sealed with it is sold by the payment itself.
type Sealer interface {
	// Seal is Bill for payers of any kind, and says what they will know. The same
	// bill has the same Hash and Key for ever, also after a restart.
	Seal(ctx context.Context, b money.Bill) (Sale, error)
}

// A Sale is a bill and its secret.
type Sale struct {
	Pay  string   // payment URI; a rail may give none once it is paid
	Hash [32]byte // of Key: the payment hash
	Key  sealed.Key
}
