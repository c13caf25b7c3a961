package wire

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// A ChannelID names a channel between its two ends (BOLT 2). All zeros means
// every channel.
type ChannelID [32]byte

// NewChannelID is the identity of the channel that an output funds: its txid,
// the last two bytes XOR the output's index.
func NewChannelID(fundingTxid chainhash.Hash, fundingOutputIndex uint16) ChannelID {
	id := ChannelID(fundingTxid)
	id[30] ^= byte(fundingOutputIndex >> 8)
	id[31] ^= byte(fundingOutputIndex)
	return id
}

// String is the ID in hex.
func (id ChannelID) String() string { return hex.EncodeToString(id[:]) }

// An SCID is a short_channel_id: where in the chain a channel was funded, or an
// alias (BOLT 7). Three bytes of block height, three of the transaction's place
// in the block, two of the output's index.
type SCID uint64

const maxUint24 = 1<<24 - 1

// NewSCID returns the SCID of an output; false if a place does not fit.
func NewSCID(block, txIndex uint32, output uint16) (SCID, bool) {
	if block > maxUint24 || txIndex > maxUint24 {
		return 0, false
	}
	return SCID(block)<<40 | SCID(txIndex)<<16 | SCID(output), true
}

// Block is the height of the block.
func (id SCID) Block() uint32 { return uint32(id >> 40) }

// TxIndex is the place of the transaction in the block.
func (id SCID) TxIndex() uint32 { return uint32(id>>16) & maxUint24 }

// Output is the index of the output.
func (id SCID) Output() uint16 { return uint16(id) }

// String is the form that people read: 539268x845x1.
func (id SCID) String() string {
	return fmt.Sprintf("%dx%dx%d", id.Block(), id.TxIndex(), id.Output())
}

// ParseSCID reads what String writes.
func ParseSCID(text string) (SCID, error) {
	fault := fmt.Errorf("short channel id %.40q is not of the form 539268x845x1", text)
	parts := strings.Split(text, "x")
	if len(parts) != 3 {
		return 0, fault
	}
	var id uint64
	for i, width := range []int{24, 24, 16} {
		n, err := strconv.ParseUint(parts[i], 10, width)
		if err != nil {
			return 0, fault
		}
		id = id<<width | n
	}
	return SCID(id), nil
}
