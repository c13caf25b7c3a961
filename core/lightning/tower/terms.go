package tower

import (
	"errors"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/txscript/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/money"
)

// dust is the largest of the dust limits of the scripts that penalties pay to,
// in satoshi.
const dust = tx.DustP2WSH

// millionths of a whole.
const millionths = 1_000_000

// Terms are what a client and a tower agree on for one session. They do not
// change, because the client's signatures are over what follows from them.
type Terms struct {
	// Rates are the fee rates of the two versions of every penalty: the second,
	// higher one is for when the first does not confirm. It may be 0: then
	// there is one version.
	Rates [2]tx.FeeRate
	// Reward is what the tower keeps of the to_local that it wins back.
	Reward Reward
	// Blobs is how many blobs the session holds.
	Blobs uint32
}

// A Reward is a part of what a penalty wins, for the tower.
type Reward struct {
	Base   int64  // satoshi
	PPM    uint32 // millionths of the output
	Script []byte // where it is paid; none if nothing is
}

// of is the reward for an output of value satoshi, or 0 if it would be dust.
func (r Reward) of(value int64) int64 {
	if len(r.Script) == 0 {
		return 0
	}
	// No overflow: value is at most 2.1e15, and its thousandth times 1e6 fits.
	reward := r.Base + value/millionths*int64(r.PPM) + value%millionths*int64(r.PPM)/millionths
	if reward < dust {
		return 0
	}
	return reward
}

// MaxBlobs bounds the blobs of a session.
const MaxBlobs = 1 << 20

// payable reports whether a script has one of the shapes that penalties pay to:
// version 0 or taproot.
func payable(script []byte) bool {
	return tx.IsP2WPKH(script) || len(script) == 34 && script[1] == txscript.OP_DATA_32 && (script[0] == txscript.OP_0 || script[0] == txscript.OP_1)
}

func checkRates(rates [2]tx.FeeRate) error {
	for _, r := range rates {
		if r < tx.MinFeeRate && (r != 0 || rates[0] == 0) || r > tx.MaxFeeRate {
			return fmt.Errorf("fee rate is %d sat/kvB; it must be %d to %d", r, tx.MinFeeRate, tx.MaxFeeRate)
		}
	}
	if rates[1] != 0 && rates[1] <= rates[0] {
		return fmt.Errorf("second fee rate is %d sat/kvB; it must be above the first, which is %d, or 0", rates[1], rates[0])
	}
	return nil
}

// Check reports what is wrong with t.
func (t Terms) Check() error {
	if err := checkRates(t.Rates); err != nil {
		return err
	}
	switch r := t.Reward; {
	case len(r.Script) > 0 && !payable(r.Script):
		return errors.New("reward script is no P2WPKH, P2WSH or P2TR")
	case len(r.Script) == 0 && (r.Base != 0 || r.PPM != 0):
		return errors.New("reward has no script to be paid to")
	case r.Base < 0 || r.Base > money.MaxAmount.Sats() || r.PPM > millionths:
		return fmt.Errorf("reward of %d sat and %d ppm is more than there is", r.Base, r.PPM)
	case t.Blobs == 0 || t.Blobs > MaxBlobs:
		return fmt.Errorf("session of %d blobs; it must be 1 to %d", t.Blobs, MaxBlobs)
	}
	return nil
}

func appendRates(b []byte, rates [2]tx.FeeRate) []byte {
	for _, r := range rates {
		b = codec.AppendUint(b, int64(r))
	}
	return b
}

func readRates(r *codec.Reader) (rates [2]tx.FeeRate) {
	for i := range rates {
		rates[i] = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
	}
	if r.Err() == nil {
		if err := checkRates(rates); err != nil {
			r.Fail(err)
		}
	}
	return rates
}

func (t Terms) append(b []byte) []byte {
	b = appendRates(b, t.Rates)
	b = codec.AppendUint(b, t.Reward.Base)
	b = codec.AppendUint(b, t.Reward.PPM)
	b = codec.AppendBytes(b, t.Reward.Script)
	return codec.AppendUint(b, t.Blobs)
}

func readTerms(r *codec.Reader) (t Terms) {
	t.Rates = readRates(r)
	t.Reward.Base = int64(r.Int(math.MaxInt, "reward"))
	t.Reward.PPM = uint32(r.Int(millionths, "reward in millionths"))
	t.Reward.Script = r.Bytes(34, "reward script")
	t.Blobs = uint32(r.Int(MaxBlobs, "number of blobs"))
	if r.Err() == nil {
		if err := t.Check(); err != nil {
			r.Fail(err)
		}
	}
	return t
}
