package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"coinop.dev/core/ledger/lattice"
)

const (
	// MaxBody bounds a request, in bytes.
	MaxBody = 256 << 10
	// MaxDepth bounds how deep its values are nested.
	MaxDepth = 20
	// MaxBatch bounds the accounts and the hashes that one request names.
	MaxBatch = 1000
)

// A Fault is why a request was not done, in the words of Nano's node as far as it
// has them.
type Fault string

func (f Fault) Error() string { return string(f) }

// Faults that have names in nano-node's errors.cpp.
const (
	unparsed         Fault = "Unable to parse JSON"
	tooDeep          Fault = "Max JSON depth exceeded"
	unknownCommand   Fault = "Unknown command"
	controlDisabled  Fault = "RPC control is disabled"
	empty            Fault = "Empty response"
	internal         Fault = "Internal server error in RPC"
	onlyPost         Fault = "Can only POST requests"
	badAccount       Fault = "Bad account number"
	accountNotFound  Fault = "Account not found"
	badRep           Fault = "Bad representative number"
	badDestination   Fault = "Bad destination account"
	badSource        Fault = "Bad source"
	badLink          Fault = "Bad link number"
	badPrevious      Fault = "Bad previous"
	badPrivateKey    Fault = "Bad private key"
	badPublicKey     Fault = "Bad public key"
	badSeed          Fault = "Bad seed"
	badThreshold     Fault = "Bad threshold number"
	badWork          Fault = "Bad work"
	badWorkVersion   Fault = "Bad work version"
	badDifficulty    Fault = "Bad difficulty"
	badMultiplier    Fault = "Bad multiplier"
	badHashNumber    Fault = "Bad hash number"
	invalidHash      Fault = "Invalid block hash"
	invalidBlock     Fault = "Block is invalid"
	invalidType      Fault = "Invalid block type"
	invalidCount     Fault = "Invalid count"
	invalidOffset    Fault = "Invalid offset"
	invalidIndex     Fault = "Invalid index"
	invalidRoot      Fault = "Invalid root hash"
	invalidAmount    Fault = "Invalid amount number"
	amountTooBig     Fault = "Amount too big"
	invalidBalance   Fault = "Invalid balance number"
	blockNotFound    Fault = "Block not found"
	difficultyLimit  Fault = "Difficulty above config limit or below publish threshold"
	workDisabled     Fault = "Work generation is disabled"
	workFailed       Fault = "Work generation cancellation or failure"
	workEnough       Fault = "Provided work is already enough for given difficulty"
	rootMismatch     Fault = "Root mismatch for block"
	cancelled        Fault = "Cancelled"
	electionNotFound Fault = "Active confirmation not found"
	peerNotFound     Fault = "Peer not found"
	keyRequired      Fault = "Private key or local wallet and account required"
	keyMismatch      Fault = "Incorrect key for given account"
	stateRequired    Fault = "Previous, representative, final balance and link (source or destination) are required"
	subtypeInvalid   Fault = "Invalid block subtype"
	subtypeBalance   Fault = "Invalid block balance for given subtype"
	subtypePrevious  Fault = "Invalid previous block for given subtype"
	subtypeEpoch     Fault = "Invalid epoch link"
)

// Faults of ours.
const (
	tooMany     Fault = "Too many accounts or hashes: 1000 are the limit"
	tooBusy     Fault = "Too many requests: try again"
	foreign     Fault = "Requests of web sites are disabled"
	unavailable Fault = "The node does not answer: try again"
	notCemented Fault = "Block is not cemented"
)

// A request is what a client asks for. Whatever reads it notes the first fault.
type request struct {
	values map[string]any // text, []any or map[string]any
	fault  error
}

// parse reads a request. Numbers and booleans count as their text, as in Nano's RPC.
func parse(body []byte) (*request, error) {
	if err := shallow(body); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var values map[string]any
	if err := d.Decode(&values); err != nil || values == nil {
		return nil, unparsed
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, unparsed
	}
	return &request{values: values}, nil
}

// shallow refuses what is nested deeper than MaxDepth before it is decoded.
func shallow(body []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return tooDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func textOf(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func (r *request) fail(f error) {
	if r.fault == nil {
		r.fault = f
	}
}

func (r *request) has(name string) bool { return r.values[name] != nil }

// text is a value that must be there.
func (r *request) text(name string) string {
	v, ok := textOf(r.values[name])
	if !ok {
		r.fail(unparsed)
	}
	return v
}

// optional is a value, and whether it is there.
func (r *request) optional(name string) (string, bool) { return textOf(r.values[name]) }

// flag is a value that is true or false, or not there.
func (r *request) flag(name string, otherwise bool) bool {
	switch v, _ := textOf(r.values[name]); v {
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	return otherwise
}

func (r *request) account(name string) lattice.Key {
	return r.accountOf(r.text(name), badAccount)
}

func (r *request) accountOf(text string, f Fault) lattice.Key {
	k, err := lattice.ParseAccount(text)
	if err != nil {
		r.fail(f)
	}
	return k
}

func (r *request) hash(name string) lattice.Hash {
	h, err := lattice.ParseHash(r.text(name))
	if err != nil {
		r.fail(invalidHash)
	}
	return h
}

// key is 32 bytes in hex.
func (r *request) key(name string, f Fault) [32]byte {
	k, err := lattice.ParseKey(r.text(name))
	if err != nil {
		r.fail(f)
	}
	return k
}

// texts is a list of text; there is one of up to MaxBatch.
func (r *request) texts(name string) (list []string) {
	items, ok := r.values[name].([]any)
	if text, isText := r.values[name].(string); isText && text == "" {
		return nil // an empty list in Nano's JSON
	}
	if !ok {
		r.fail(unparsed)
	}
	if len(items) > MaxBatch {
		r.fail(tooMany)
		return nil
	}
	for _, item := range items {
		text, ok := textOf(item)
		if !ok {
			r.fail(unparsed)
		}
		list = append(list, text)
	}
	return list
}

func number(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// count is a number that must be there, at most most.
func (r *request) count(most uint64) int {
	n, ok := number(r.text("count"))
	if !ok || n == 0 {
		r.fail(invalidCount)
	}
	return int(min(n, most))
}

func (r *request) countOr(otherwise, most uint64) int {
	text, given := r.optional("count")
	n, ok := number(text)
	if !given {
		n = otherwise
	} else if !ok {
		r.fail(invalidCount)
	}
	return int(min(n, most))
}

func (r *request) offset(most uint64) int {
	text, given := r.optional("offset")
	n, ok := number(text)
	if given && !ok {
		r.fail(invalidOffset)
	}
	return int(min(n, most))
}

func (r *request) raw(name string, f Fault) lattice.Raw {
	v, err := lattice.ParseRaw(r.text(name))
	if err != nil {
		r.fail(f)
	}
	return v
}

func (r *request) threshold() lattice.Raw {
	if !r.has("threshold") {
		return lattice.Raw{}
	}
	return r.raw("threshold", badThreshold)
}

// hex64 is a number in hex, if it is there.
func (r *request) hex64(name string, otherwise uint64, f Fault) uint64 {
	text, given := r.optional(name)
	if !given {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		r.fail(f)
	}
	return n
}

// block is the block of a request: an object with json_block, else text of one.
func (r *request) block() (b lattice.Block) {
	fields, ok := r.values["block"].(map[string]any)
	if !r.flag("json_block", false) {
		text, isText := r.values["block"].(string)
		inner, err := parse([]byte(text))
		if !isText {
			r.fail(unparsed)
			return b
		}
		if err != nil {
			r.fail(invalidBlock)
			return b
		}
		fields, ok = inner.values, true
	}
	if !ok {
		r.fail(unparsed)
		return b
	}
	b, err := readBlock(fields)
	if err != nil {
		r.fail(err)
	}
	return b
}

// readBlock reads a state block.
func readBlock(fields map[string]any) (b lattice.Block, err error) {
	in := &request{values: fields}
	if in.text("type") != "state" {
		return b, invalidType
	}
	b.Account = in.account("account")
	b.Representative = in.account("representative")
	b.Balance = in.raw("balance", invalidBlock)
	b.Work = in.hex64("work", 0, invalidBlock)
	if previous := in.text("previous"); previous != "0" { // how some clients write none
		b.Previous = in.hash("previous")
	}
	link := in.text("link")
	if key, err := lattice.ParseAccount(link); err == nil {
		b.Link = key
	} else {
		b.Link = in.key("link", invalidBlock)
	}
	signature, err := hexBytes(in.text("signature"), len(b.Signature))
	if in.fault != nil || err != nil || !in.has("work") {
		return b, invalidBlock
	}
	copy(b.Signature[:], signature)
	return b, nil
}
