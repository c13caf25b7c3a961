package light

import "github.com/btcsuite/btcd/wire/v2"

// BloomSpan is how many blocks are asked for at once by BIP 37.
const BloomSpan = 100

// BloomWarning is shown to who uses BIP 37.
const BloomWarning = "BIP 37 tells the peer which scripts are ours, but for a few that are not: use compact filters (p2p:) where the peer has them"

func (c *Client) askBlooms(s *scan) {}

func (c *Client) filtered(p *peer, msg *wire.MsgMerkleBlock) {}

func (c *Client) transaction(p *peer, msg *wire.MsgTx) { c.cameBack(p, msg) }
