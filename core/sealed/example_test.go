package sealed_test

import (
	"bytes"
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
)

// A sensor sells a reading over Lightning. The key is the preimage of its invoice,
// which a rail.Sealer knows; here it is made up.
func Example() {
	sensor, _ := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte{1}, 32)))
	preimage := sealed.NewKey([32]byte{42})
	order := money.OrderID{1}

	// Published for everybody.
	s, _ := sealed.Seal(sensor, order, 21*money.Sat, preimage, []byte("air temperature"), []byte("21.5 degrees"))

	// The buyer holds the reading before it pays, and knows that the invoice buys
	// its key.
	paymentHash := preimage.Hash()
	fmt.Println(s.Check(sensor.Public(), paymentHash, 21*money.Sat))

	// It pays, and the proof of that is the key.
	plain, err := s.Open(preimage)
	fmt.Printf("%s %v\n", plain, err)
	// Output:
	// <nil>
	// 21.5 degrees <nil>
}
