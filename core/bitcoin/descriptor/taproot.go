package descriptor

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"coinop.dev/core/keys"
)

// tapTweak is what BIP 341 adds to an internal key without scripts, as BIP 86
// wants it: nobody can claim later that there was one.
func tapTweak(internal keys.Public) [32]byte { return keys.Digest("TapTweak", internal[1:]) }

// tapOutput is the key in the script, of which only x counts.
func tapOutput(internal keys.Public) (keys.Public, error) {
	t := tapTweak(internal)
	internal[0] = secp256k1.PubKeyFormatCompressedEven // lift_x
	return internal.AddTweak(t)
}

// TapSecret turns the secret of a taproot script's internal key into that of its
// output key, which signs (BIP 341, taproot_tweak_seckey without a tree; BIP 86).
func TapSecret(internal keys.Secret) (keys.Secret, error) {
	pub := internal.Public()
	t := tapTweak(pub)
	if pub[0] == secp256k1.PubKeyFormatCompressedEven {
		return internal.AddTweak(t)
	}
	var k secp256k1.ModNScalar
	b := internal.Reveal()
	k.SetByteSlice(b)
	k.Negate().PutBytesUnchecked(b)
	k.Zero()
	defer clear(b)
	even, err := keys.SecretFromBytes(b)
	if err != nil {
		return keys.Secret{}, err
	}
	return even.AddTweak(t)
}
