package commit

import (
	"crypto/sha256"
	"fmt"

	"coinop.dev/core/keys"
)

// Keys are the public keys in one commitment. Own keys are those of the
// commitment's owner ("local" in BOLT 3's scripts), whoever that is.
type Keys struct {
	Revocation keys.Public // the other side's, once the owner reveals its secret
	Delayed    keys.Public // own, of to_local and second-stage outputs
	Payment    keys.Public // the other side's, of to_remote: its basepoint
	HTLC       keys.Public // own
	OtherHTLC  keys.Public // the other side's
}

// Keys derives the keys of owner's commitment with the per-commitment point
// (BOLT 3, key derivation). It fails if one of the points is not on the curve.
func (c *Channel) Keys(owner Owner, point keys.Public) (k Keys, err error) {
	own, other := c.Party(owner), c.Party(owner.Other())
	k, err = c.outputKeys(owner, point)
	if err != nil {
		return k, err
	}
	if k.HTLC, err = derived(own.HTLC, point); err != nil {
		return k, err
	}
	k.OtherHTLC, err = derived(other.HTLC, point)
	return k, err
}

// outputKeys are the keys of a commitment without HTLCs.
func (c *Channel) outputKeys(owner Owner, point keys.Public) (k Keys, err error) {
	own, other := c.Party(owner), c.Party(owner.Other())
	k.Payment = other.Payment
	if k.Revocation, err = RevocationKey(other.Revocation, point); err != nil {
		return k, err
	}
	k.Delayed, err = derived(own.Delayed, point)
	return k, err
}

// Build is Channel.Build for whoever has the secrets of c.Local, in two thirds of
// the time for a small commitment.
func (s Secrets) Build(c *Channel, owner Owner, point keys.Public, st State) (*Commitment, error) {
	if err := c.check(st); err != nil {
		return nil, err
	}
	derive := s.outputKeys
	if c.untrimmed(owner, st) > 0 {
		derive = s.Keys
	}
	k, err := derive(c, owner, point, st.Number)
	if err != nil {
		return nil, fmt.Errorf("%v commitment: %w", owner, err)
	}
	return c.BuildWith(k, owner, point, st)
}

// Keys is Channel.Keys for whoever has the secrets of c.Local, in less time:
// number is that of owner's commitment.
func (s Secrets) Keys(c *Channel, owner Owner, point keys.Public, number uint64) (k Keys, err error) {
	own, other := c.Party(owner), c.Party(owner.Other())
	if k, err = s.outputKeys(c, owner, point, number); err != nil {
		return k, err
	}
	if k.HTLC, err = derived(own.HTLC, point); err != nil {
		return k, err
	}
	k.OtherHTLC, err = derived(other.HTLC, point)
	return k, err
}

// outputKeys are the keys of a commitment without HTLCs.
func (s Secrets) outputKeys(c *Channel, owner Owner, point keys.Public, number uint64) (k Keys, err error) {
	own, other := c.Party(owner), c.Party(owner.Other())
	k.Payment = other.Payment
	base := other.Revocation
	forBase, forPoint := tweak(base, point), tweak(point, base)
	if owner == Local { // the point is ours, or else the basepoint
		per := s.PerCommitment(number)
		var secret keys.Secret
		if secret, err = keys.SecretFromBytes(per[:]); err == nil {
			k.Revocation, err = secret.Blend(forPoint, base, forBase)
		}
	} else {
		k.Revocation, err = s.Revocation.Blend(forBase, point, forPoint)
	}
	if err != nil {
		return k, fmt.Errorf("revocation key: %w", err)
	}
	k.Delayed, err = derived(own.Delayed, point)
	return k, err
}

// tweak is SHA256(a || b).
func tweak(a, b keys.Public) [32]byte {
	var both [2 * len(a)]byte
	copy(both[:], a[:])
	copy(both[len(a):], b[:])
	return sha256.Sum256(both[:])
}

// derived is basepoint + SHA256(point || basepoint)·G.
func derived(base, point keys.Public) (keys.Public, error) {
	k, err := base.AddTweak(tweak(point, base))
	if err != nil {
		return k, fmt.Errorf("basepoint: %w", err)
	}
	return k, nil
}

// DeriveSecret is the secret of the delayed or HTLC key that base derives to in
// the commitment with a per-commitment point.
func DeriveSecret(base keys.Secret, point keys.Public) keys.Secret {
	s, err := base.AddTweak(tweak(point, base.Public()))
	if err != nil {
		panic(err) // takes a preimage of SHA-256
	}
	return s
}

// RevocationKey blends a revocation basepoint with the per-commitment point of
// the other side's commitment.
func RevocationKey(base, point keys.Public) (keys.Public, error) {
	k, err := keys.Blend(base, tweak(base, point), point, tweak(point, base))
	if err != nil {
		return k, fmt.Errorf("revocation key: %w", err)
	}
	return k, nil
}

// RevocationSecret is the secret of RevocationKey, for whoever has both the
// basepoint's secret and the revealed per-commitment secret.
func RevocationSecret(base keys.Secret, revealed [32]byte) (keys.Secret, error) {
	per, err := keys.SecretFromBytes(revealed[:])
	if err != nil {
		return keys.Secret{}, fmt.Errorf("per-commitment secret: %w", err)
	}
	b, p := base.Public(), per.Public()
	return keys.BlendSecrets(base, tweak(b, p), per, tweak(p, b))
}
