// Package electrum speaks the Electrum protocol, versions 1.4 to 1.4.2 and 1.6
// (spesmilo/electrum-protocol): newline-delimited JSON-RPC over TCP or TLS.
//
// A Server shows any chain.Source that can show blocks to wallets. A Client is a
// chain.Source that asks servers of strangers: it keeps the chain of headers
// itself, counts no transaction without a Merkle branch to one of them, and
// compares what several servers say. What it cannot prove is what a server
// leaves out; with two servers, one honest one is enough to see that.
//
// No text of a server is ever shown or logged: it becomes a Reason.
package electrum

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// HeaderChunk is the most headers of one answer: one period of difficulty.
const HeaderChunk = 2016

// headerSize is that of a block header, in bytes.
const headerSize = 80

// The methods both ends of this package use.
const (
	methodVersion      = "server.version"
	methodPing         = "server.ping"
	methodTip          = "blockchain.headers.subscribe"
	methodHeaders      = "blockchain.block.headers"
	methodSubscribe    = "blockchain.scripthash.subscribe"
	methodHistory      = "blockchain.scripthash.get_history"
	methodTx           = "blockchain.transaction.get"
	methodBranch       = "blockchain.transaction.get_merkle"
	methodBroadcast    = "blockchain.transaction.broadcast"
	waitingParentSpent = -1 // the height of what waits for a transaction that waits
)

// HashOf is the script hash that the protocol names a script by: its SHA-256,
// printed in reverse as hashes of blocks are.
func HashOf(script []byte) chainhash.Hash { return sha256.Sum256(script) }

// A seen is one line of a script's history.
type seen struct {
	id     chainhash.Hash
	height int32 // 0 waits for a block, -1 waits for one that waits
}

// status is what servers and wallets compare a history by: null for an empty
// one.
func status(history []seen) *chainhash.Hash {
	if len(history) == 0 {
		return nil
	}
	h := sha256.New()
	var line []byte
	for _, s := range history {
		line = append(line[:0], s.id.String()...)
		line = append(line, ':')
		line = strconv.AppendInt(line, int64(s.height), 10)
		line = append(line, ':')
		h.Write(line)
	}
	sum := chainhash.Hash(h.Sum(nil))
	return &sum
}

// statusText is a status as the protocol has it: in plain order, unlike a hash.
func statusText(s *chainhash.Hash) *string {
	if s == nil {
		return nil
	}
	text := hex.EncodeToString(s[:])
	return &text
}

// parseHash reads the 64 digits of a hash that is printed in reverse.
func parseHash(text string) (h chainhash.Hash, err error) {
	if len(text) != 2*chainhash.HashSize {
		return h, fmt.Errorf("a hash has %d digits, not %d", 2*chainhash.HashSize, len(text))
	}
	got, err := chainhash.NewHashFromStr(text)
	if err != nil {
		return h, errors.New("a hash has hexadecimal digits only")
	}
	return *got, nil
}

// A version of the protocol.
type version [3]int

func (v version) String() string {
	if v[2] == 0 {
		return fmt.Sprintf("%d.%d", v[0], v[1])
	}
	return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])
}

func (v version) less(other version) bool {
	for i := range v {
		if v[i] != other[i] {
			return v[i] < other[i]
		}
	}
	return false
}

var (
	v14 = version{1, 4}
	v16 = version{1, 6}
)

// spoken are the versions of this package, the newest first.
var spoken = []version{v16, {1, 4, 2}, {1, 4, 1}, v14}

// parseVersion reads "1.4" and "1.4.2".
func parseVersion(text string) (v version, err error) {
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return v, errors.New("a protocol version is written as 1.4 or 1.4.2")
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return v, errors.New("a protocol version is written as 1.4 or 1.4.2")
		}
		v[i] = int(n)
	}
	return v, nil
}

// choose is the newest version that is spoken and in a range.
func choose(lowest, highest version) (version, bool) {
	for _, v := range spoken {
		if !v.less(lowest) && !highest.less(v) {
			return v, true
		}
	}
	return version{}, false
}

// versionRange reads "1.4" and ["1.4","1.6"].
func versionRange(raw json.RawMessage) (lowest, highest version, err error) {
	var one string
	both := []string{}
	if json.Unmarshal(raw, &one) == nil {
		both = []string{one, one}
	} else if json.Unmarshal(raw, &both) != nil || len(both) != 2 {
		return lowest, highest, errors.New("protocol_version is a string or an array of two")
	}
	if lowest, err = parseVersion(both[0]); err == nil {
		highest, err = parseVersion(both[1])
	}
	return lowest, highest, err
}

// btc writes satoshi as the protocol's decimal number of coins.
func btc(sat int64) json.RawMessage {
	sign := ""
	if sat < 0 {
		sign, sat = "-", -sat
	}
	return json.RawMessage(fmt.Sprintf("%s%d.%08d", sign, sat/1e8, sat%1e8))
}
