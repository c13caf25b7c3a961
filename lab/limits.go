package lab

import (
	"crypto/rand"
	"crypto/sha256"
	"os"
	"slices"
	"time"

	"coinop.dev/core/keys"
)

// Limits are what this computer can do at best, timed in the payer's process
// after the workload: medians of single calls, in microseconds.
type Limits struct {
	SignUs        *float64 `json:"sign_us"`   // ECDSA, as tickets
	VerifyUs      *float64 `json:"verify_us"` // ECDSA
	ECDHUs        *float64 `json:"ecdh_us"`
	BaseMultUs    *float64 `json:"base_mult_us"` // of a secret to its public key
	StampSignUs   *float64 `json:"stamp_sign_us"`
	StampVerifyUs *float64 `json:"stamp_verify_us"`
	HashUs        *float64 `json:"hash_us"`       // SHA-256 of 32 bytes, as a coin of a hash chain
	FsyncUs       *float64 `json:"fsync_us"`      // of 256 bytes more in a file on the store's disk
	RoundTripUs   *float64 `json:"round_trip_us"` // of 128 bytes between the two processes, sealed
}

const (
	limitCalls    = 300
	limitRecord   = 256
	limitMessage  = 128
	limitWarmUp   = limitCalls / 10
	hashCalls     = 100
	microsPerNano = 1e-3
)

func (e *end) limits() (*Limits, error) {
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		return nil, err
	}
	public, stamp, digest := key.Public(), key.Stamp("lab"), keys.Digest("coinop/lab")
	sig, mark := key.Sign(digest), stamp.Sign(digest[:])
	l := &Limits{
		SignUs:        median(func() error { key.Sign(digest); return nil }),
		VerifyUs:      median(func() error { public.Verify(digest, sig); return nil }),
		ECDHUs:        median(func() error { _, err := key.ECDH(public); return err }),
		BaseMultUs:    median(func() error { key.Public(); return nil }),
		StampSignUs:   median(func() error { stamp.Sign(digest[:]); return nil }),
		StampVerifyUs: median(func() error { stamp.Public().Verify(digest[:], mark); return nil }),
	}
	word := sha256.Sum256(digest[:])
	l.HashUs = scaled(median(func() error {
		for range hashCalls { // one alone is shorter than the clock's step
			word = sha256.Sum256(word[:])
		}
		return nil
	}), 1.0/hashCalls)
	f, err := os.CreateTemp(e.dir, "fsync-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	record := make([]byte, limitRecord)
	l.FsyncUs = median(func() error {
		if _, err := f.Write(record); err != nil {
			return err
		}
		return f.Sync()
	})
	l.RoundTripUs = median(func() error {
		if err := e.echo.Send(record[:limitMessage]); err != nil {
			return err
		}
		_, err := e.echo.Recv()
		return err
	})
	return l, nil
}

// median times single calls; a call that fails leaves nothing to say.
func median(call func() error) *float64 {
	took := make([]time.Duration, 0, limitCalls)
	for i := range limitWarmUp + limitCalls {
		begin := time.Now()
		if call() != nil {
			return nil
		}
		if i >= limitWarmUp {
			took = append(took, time.Since(begin))
		}
	}
	slices.Sort(took)
	return figure(float64(took[len(took)/2]) * microsPerNano)
}

// lightning is the least processor time of a payment over so many channels, in
// milliseconds: the onion's keys, and, if the chain could enforce it, a signature
// made and verified for each commitment that it is in. Signatures over whole
// commitments are shared by all payments in flight, and left out.
func (l *Limits) lightning(hops int, enforceable bool) *float64 {
	h := float64(hops)
	// The payer makes a key and a secret for each hop; each hop makes its secret,
	// and all but the last the next one's key.
	total := sum(scaled(l.BaseMultUs, h), scaled(l.ECDHUs, 3*h-1))
	if enforceable {
		// In the commitments of both ends of each channel.
		total = sum(total, scaled(sum(l.SignUs, l.VerifyUs), 2*h))
	}
	return scaled(total, 1e-3)
}
