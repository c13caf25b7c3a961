// Package headertest makes header chains for tests and benchmarks: without
// randomness, under mainnet's rules, with a proof of work that costs a few
// hashes. Its arithmetic is math/big's, so that it checks the header package
// instead of repeating it.
package headertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math/big"
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// EasyBits is the easiest target there is: every second hash meets it.
const EasyBits = 0x207fffff

// Params is a network with mainnet's rules, retargeting among them, and the
// easiest proof of work. Its first block is regtest's.
func Params() *chaincfg.Params {
	p := chaincfg.MainNetParams
	p.Name = "headertest"
	p.Net = 0x74736574
	p.GenesisBlock = chaincfg.RegressionNetParams.GenesisBlock
	p.GenesisHash = chaincfg.RegressionNetParams.GenesisHash
	p.PowLimit = chaincfg.RegressionNetParams.PowLimit
	p.PowLimitBits = EasyBits
	p.Checkpoints = nil
	p.BIP0034Height, p.BIP0065Height, p.BIP0066Height = 1, 1, 1
	return &p
}

// Synthetic yields the n headers that follow p's first block, always the same.
// Times stray and step back as miners' clocks do, and blocks come faster and
// slower by up to four times, so every period has another difficulty: from the
// easiest to some eight times that.
func Synthetic(p *chaincfg.Params, n int) iter.Seq[wire.BlockHeader] {
	return func(yield func(wire.BlockHeader) bool) {
		period := int(p.TargetTimespan / p.TargetTimePerBlock)
		target := int64(p.TargetTimePerBlock / 1e9)
		h := p.GenesisBlock.Header
		bits, spacing := h.Bits, target
		clock := h.Timestamp.Unix()
		first, last := clock, clock
		dice := uint64(1)
		for height := 1; height <= n; height++ {
			dice = dice*6364136223846793005 + 1442695040888963407
			if height%period == 0 {
				bits = Retarget(p, bits, last-first)
				spacing = pace(p, bits, target, dice>>40)
			}
			clock += spacing
			last = clock - int64(dice>>33)%(target/2)
			if height%period == 0 {
				first = last
			}
			h = Mine(wire.BlockHeader{
				Version: 4, PrevBlock: hash(&h), MerkleRoot: root(dice), Bits: bits,
			}, last)
			if !yield(h) {
				return
			}
		}
	}
}

// pace is how many seconds the blocks of a period take on average: any from a
// fourth of what they should to the double of it, but more if it got hard.
func pace(p *chaincfg.Params, bits uint32, target int64, dice uint64) int64 {
	hard := new(big.Int).Div(p.PowLimit, Expand(bits))
	if hard.Cmp(big.NewInt(3)) >= 0 {
		return 3 * target
	}
	return target/4 + int64(dice)%(target*7/4)
}

func root(dice uint64) (root chainhash.Hash) {
	binary.LittleEndian.PutUint64(root[:], dice)
	return root
}

// Mine gives h the time, in Unix seconds, and the first nonce whose hash meets
// its bits.
func Mine(h wire.BlockHeader, unix int64) wire.BlockHeader {
	var target [32]byte
	Expand(h.Bits).FillBytes(target[:])
	slices.Reverse(target[:]) // as a hash is written
	h.Nonce = 0
	raw := bytes80(&h)
	binary.LittleEndian.PutUint32(raw[68:], uint32(unix))
	for !meets(sum(&raw), &target) {
		h.Nonce++
		binary.LittleEndian.PutUint32(raw[76:], h.Nonce)
	}
	var mined wire.BlockHeader
	if err := mined.Deserialize(bytes.NewReader(raw[:])); err != nil {
		panic(err) // a bytes.Reader of 80 bytes does not fail
	}
	return mined
}

// Next mines the header that follows the last of headers, which start with p's
// first block, at a time in Unix seconds. salt tells it from its siblings.
func Next(p *chaincfg.Params, headers []wire.BlockHeader, unix int64, salt uint64) wire.BlockHeader {
	h := wire.BlockHeader{
		Version: 4, PrevBlock: hash(&headers[len(headers)-1]), MerkleRoot: root(salt), Bits: Required(p, headers, unix),
	}
	return Mine(h, unix)
}

// Required is the bits of the header that follows headers, which start with p's
// first block, at a time in Unix seconds.
func Required(p *chaincfg.Params, headers []wire.BlockHeader, unix int64) uint32 {
	period, last := int(p.TargetTimespan/p.TargetTimePerBlock), headers[len(headers)-1]
	if p.PoWNoRetargeting {
		return p.PowLimitBits
	}
	if len(headers)%period == 0 {
		first := headers[len(headers)-period]
		bits := last.Bits
		if p.EnforceBIP94 {
			bits = first.Bits
		}
		return Retarget(p, bits, last.Timestamp.Unix()-first.Timestamp.Unix())
	}
	if !p.ReduceMinDifficulty {
		return last.Bits
	}
	if unix-last.Timestamp.Unix() > int64(p.MinDiffReductionTime/1e9) {
		return p.PowLimitBits
	}
	i := len(headers) - 1
	for i%period != 0 && headers[i].Bits == p.PowLimitBits {
		i--
	}
	return headers[i].Bits
}

// Retarget is the bits that follow a period of bits that took so many seconds.
func Retarget(p *chaincfg.Params, bits uint32, took int64) uint32 {
	span := int64(p.TargetTimespan / 1e9)
	took = min(max(took, span/p.RetargetAdjustmentFactor), span*p.RetargetAdjustmentFactor)
	target := Expand(bits)
	target.Mul(target, big.NewInt(took)).Div(target, big.NewInt(span))
	if target.Cmp(p.PowLimit) > 0 {
		target.Set(p.PowLimit)
	}
	return Compact(target)
}

// Expand is the target that positive bits stand for.
func Expand(bits uint32) *big.Int {
	mantissa, size := big.NewInt(int64(bits&0x7fffff)), uint(bits>>24)
	if size < 3 {
		return mantissa.Rsh(mantissa, 8*(3-size))
	}
	return mantissa.Lsh(mantissa, 8*(size-3))
}

// Compact is the bits that stand for a positive target.
func Compact(target *big.Int) uint32 {
	size := uint(target.BitLen()/8 + 1) // room for the sign
	if size < 3 {
		return uint32(size)<<24 | uint32(target.Uint64()<<(8*(3-size)))
	}
	return uint32(size)<<24 | uint32(new(big.Int).Rsh(target, 8*(size-3)).Uint64())
}

func hash(h *wire.BlockHeader) chainhash.Hash {
	raw := bytes80(h)
	return sum(&raw)
}

func sum(raw *[80]byte) [32]byte {
	first := sha256.Sum256(raw[:])
	return sha256.Sum256(first[:])
}

func meets(hash [32]byte, target *[32]byte) bool {
	for i := 31; i >= 0; i-- {
		if hash[i] != target[i] {
			return hash[i] < target[i]
		}
	}
	return true
}

func bytes80(h *wire.BlockHeader) (raw [80]byte) {
	binary.LittleEndian.PutUint32(raw[0:], uint32(h.Version))
	copy(raw[4:], h.PrevBlock[:])
	copy(raw[36:], h.MerkleRoot[:])
	binary.LittleEndian.PutUint32(raw[68:], uint32(h.Timestamp.Unix()))
	binary.LittleEndian.PutUint32(raw[72:], h.Bits)
	binary.LittleEndian.PutUint32(raw[76:], h.Nonce)
	return raw
}
