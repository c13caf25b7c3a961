package sealed

import "coinop.dev/core/keys"

// Spoil makes the seller a cheat: chunk i is rubbish, and signed.
func (s *Stream) Spoil(seller keys.Secret, i int) {
	s.ciphers[i-1][len(s.ciphers[i-1])-1] ^= 1
	s.Digests[i-1] = digest(s.ciphers[i-1])
	s.Sig = seller.Sign(s.Commitment())
}

// SignSpoilt signs a ciphertext that its key does not open.
func (s *Sealed) SignSpoilt(seller keys.Secret) {
	s.Cipher[len(s.Cipher)-1] ^= 1
	s.Sig = seller.Sign(s.Commitment())
}
