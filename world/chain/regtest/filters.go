package regtest

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// getFilters sends one message per block, for at most 1,000 (BIP 157).
func (p *remote) getFilters(msg *wire.MsgGetCFilters) error {
	blocks, err := p.filterRange(msg.FilterType, msg.StartHeight, &msg.StopHash, wire.MaxGetCFiltersReqRange)
	if err != nil {
		return err
	}
	for _, hash := range blocks {
		if err := p.spend(costFilter); err != nil {
			return err
		}
		filter, err := p.node.index.FilterByBlockHash(hash, msg.FilterType)
		if err != nil || len(filter) == 0 {
			return nil // the block has left the best chain
		}
		if err := p.spend(len(filter) / bytesCopied); err != nil {
			return err
		}
		if err := p.reply(wire.NewMsgCFilter(msg.FilterType, hash, filter)); err != nil {
			return err
		}
	}
	return nil
}

// getFilterHeaders sends the hashes of at most 2,000 filters and the filter
// header before the first (BIP 157).
func (p *remote) getFilterHeaders(msg *wire.MsgGetCFHeaders) error {
	if err := p.spend(costHeaders); err != nil {
		return err
	}
	blocks, err := p.filterRange(msg.FilterType, msg.StartHeight, &msg.StopHash, wire.MaxCFHeadersPerMsg)
	if err != nil || len(blocks) == 0 {
		return err
	}
	answer := wire.NewMsgCFHeaders()
	answer.FilterType, answer.StopHash = msg.FilterType, msg.StopHash
	if msg.StartHeight > 0 {
		first, err := p.node.chain.HeaderByHash(blocks[0])
		if err != nil {
			return err
		}
		before, err := p.node.index.FilterHeaderByBlockHash(&first.PrevBlock, msg.FilterType)
		if err != nil || answer.PrevFilterHeader.SetBytes(before) != nil {
			return nil // the block has left the best chain
		}
	}
	hashes, err := p.node.index.FilterHashesByBlockHashes(blocks, msg.FilterType)
	if err != nil {
		return nil
	}
	for _, raw := range hashes {
		hash, err := chainhash.NewHash(raw)
		if err != nil {
			return nil
		}
		answer.FilterHashes = append(answer.FilterHashes, hash)
	}
	return p.reply(answer)
}

// getFilterCheckpoints sends every thousandth filter header (BIP 157).
func (p *remote) getFilterCheckpoints(msg *wire.MsgGetCFCheckpt) error {
	if err := p.spend(costHeaders); err != nil {
		return err
	}
	if msg.FilterType != wire.GCSFilterRegular {
		return nil
	}
	blocks, err := p.node.chain.IntervalBlockHashes(&msg.StopHash, wire.CFCheckptInterval)
	if err != nil {
		return nil // an unknown block may be one of another branch
	}
	answer := wire.NewMsgCFCheckpt(msg.FilterType, &msg.StopHash, len(blocks))
	for i := range blocks {
		raw, err := p.node.index.FilterHeaderByBlockHash(&blocks[i], msg.FilterType)
		if err != nil {
			return nil
		}
		header, err := chainhash.NewHash(raw)
		if err != nil {
			return nil
		}
		if err := answer.AddCFHeader(header); err != nil {
			return err
		}
	}
	return p.reply(answer)
}

// filterRange lists the blocks from a height to a hash. None means that we have
// no answer; to ask for too many is an offence.
func (p *remote) filterRange(kind wire.FilterType, start uint32, stop *chainhash.Hash, limit int) ([]*chainhash.Hash, error) {
	if kind != wire.GCSFilterRegular {
		return nil, nil
	}
	end, err := p.node.chain.BlockHeightByHash(stop)
	if err != nil {
		return nil, nil // an unknown block may be one of another branch
	}
	if start > uint32(end) || int(uint32(end)-start) >= limit {
		return nil, misbehaved("asked for filters %d to %d; the limit is %d (BIP 157)", start, end, limit)
	}
	found, err := p.node.chain.HeightToHashRange(int32(start), stop, limit)
	if err != nil {
		return nil, nil
	}
	blocks := make([]*chainhash.Hash, len(found))
	for i := range found {
		blocks[i] = &found[i]
	}
	return blocks, nil
}
