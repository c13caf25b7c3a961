package bccapi

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
)

// Waiting is the height of what is in no block yet.
const Waiting int32 = -1

// Code is what kind of error an Error is.
type Code int32

// The codes of BitcoinClientApi.java. A server sends 1, 2 and 6, and ours 3 when
// it has no answer now; 4 and 5 are what a client says of a server.
const (
	ParserError              Code = 1
	UnknownType              Code = 2
	CommunicationError       Code = 3
	UnexpectedServerResponse Code = 4
	InvalidServerResponse    Code = 5
	InvalidRequest           Code = 6
)

// An Error is the other side's frame that says no, or our own word for it.
type Error struct {
	Code Code
	Text string // as it was sent; print with Error
}

// Error quotes the text, because it may be a stranger's.
func (e *Error) Error() string { return fmt.Sprintf("bccapi error %d: %.300q", e.Code, e.Text) }

// Balance is of a set of addresses, in satoshi.
type Balance struct {
	// Unspent is in blocks, and nothing that waits spends it.
	Unspent int64
	// Receiving waits and comes from others, or in part from others.
	Receiving int64
	// Sending is what transactions that wait take from the addresses, with what
	// of it they give back as change.
	Sending int64
	// Change waits and comes from the addresses themselves.
	Change int64
}

// BalanceRequest is queryBalance.
type BalanceRequest struct{ Addresses []Address }

// BalanceResponse answers it.
type BalanceResponse struct{ Balance Balance }

// UnspentRequest is queryUnspentOutputs.
type UnspentRequest struct{ Addresses []Address }

// UnspentResponse answers it, with the sets that [Balance] sums up.
type UnspentResponse struct {
	Unspent, Change, Receiving []Output
	Height                     int32 // of the tip
}

// An Output is one that the server says is unspent.
type Output struct {
	Point  wire.OutPoint
	Height int32 // of its block, or Waiting
	Value  int64 // satoshi
	Script []byte
}

// InventoryRequest is queryTransactionInventory: the newest Limit transactions.
type InventoryRequest struct {
	Addresses []Address
	Limit     int32
}

// InventoryResponse answers it, newest first.
type InventoryResponse struct {
	Transactions []InventoryItem
	Height       int32 // of the tip
}

// An InventoryItem is a transaction and its block.
type InventoryItem struct {
	ID     chainhash.Hash
	Height int32 // or Waiting
}

// SummaryRequest is queryTransactionSummary.
type SummaryRequest struct{ IDs []chainhash.Hash }

// SummaryResponse answers it.
type SummaryResponse struct {
	Transactions []Summary
	Height       int32 // of the tip
}

// A Summary is who paid whom in a transaction.
type Summary struct {
	ID              chainhash.Hash
	Height          int32 // or Waiting
	Time            int32 // Unix seconds
	Inputs, Outputs []Item
}

// An Item is one input or output. What has no address has one of zeros.
type Item struct {
	Address Address
	Value   int64 // satoshi
}

// MaxItems is how many inputs or outputs a Summary can say.
const MaxItems = math.MaxUint16

// BroadcastRequest is broadcastTransaction.
type BroadcastRequest struct{ Tx *wire.MsgTx }

// BroadcastResponse answers it.
type BroadcastResponse struct{ ID chainhash.Hash }

func (*Error) kind() kind            { return kindError }
func (Balance) kind() kind           { return kindBalance }
func (Summary) kind() kind           { return kindSummary }
func (BalanceRequest) kind() kind    { return kindBalanceRequest }
func (BalanceResponse) kind() kind   { return kindBalanceResponse }
func (UnspentRequest) kind() kind    { return kindUnspentRequest }
func (UnspentResponse) kind() kind   { return kindUnspentResponse }
func (InventoryRequest) kind() kind  { return kindInventoryRequest }
func (InventoryResponse) kind() kind { return kindInventoryResponse }
func (SummaryRequest) kind() kind    { return kindSummaryRequest }
func (SummaryResponse) kind() kind   { return kindSummaryResponse }
func (BroadcastRequest) kind() kind  { return kindBroadcastRequest }
func (BroadcastResponse) kind() kind { return kindBroadcastResponse }

// read is the payload of each kind. Fields are read in the order of the literal.
func read(k kind, r *codec.Reader) Message {
	switch k {
	case kindError:
		return &Error{Code(i32(r)), string(r.Take(length(r)))}
	case kindBalance:
		return Balance{i64(r), i64(r), i64(r), i64(r)}
	case kindSummary:
		return Summary{readID(r), i32(r), i32(r), readItems(r), readItems(r)}
	case kindBalanceRequest:
		return BalanceRequest{list(r, readAddress)}
	case kindBalanceResponse:
		return BalanceResponse{inner[Balance](r)}
	case kindUnspentRequest:
		return UnspentRequest{list(r, readAddress)}
	case kindUnspentResponse:
		return UnspentResponse{list(r, readOutput), list(r, readOutput), list(r, readOutput), i32(r)}
	case kindInventoryRequest:
		return InventoryRequest{list(r, readAddress), i32(r)}
	case kindInventoryResponse:
		return InventoryResponse{list(r, readInventoryItem), i32(r)}
	case kindSummaryRequest:
		return SummaryRequest{list(r, readID)}
	case kindSummaryResponse:
		return SummaryResponse{list(r, inner[Summary]), i32(r)}
	case kindBroadcastRequest:
		return BroadcastRequest{readTx(r)}
	case kindBroadcastResponse:
		return BroadcastResponse{readID(r)}
	}
	r.Fail(&Error{UnknownType, fmt.Sprintf("frame type 0x%02x is not known", uint8(k))})
	return nil
}

func (e *Error) append(b []byte) []byte {
	return append(appendI32(appendI32(b, int32(e.Code)), len(e.Text)), e.Text...)
}

func (m Balance) append(b []byte) []byte {
	return appendI64(appendI64(appendI64(appendI64(b, m.Unspent), m.Receiving), m.Sending), m.Change)
}

func (m Summary) append(b []byte) []byte {
	b = appendI32(appendI32(appendID(b, m.ID), m.Height), m.Time)
	return appendItems(appendItems(b, m.Inputs), m.Outputs)
}

func (m BalanceRequest) append(b []byte) []byte { return appendList(b, m.Addresses, appendAddress) }

func (m BalanceResponse) append(b []byte) []byte { return Append(b, m.Balance) }

func (m UnspentRequest) append(b []byte) []byte { return appendList(b, m.Addresses, appendAddress) }

func (m UnspentResponse) append(b []byte) []byte {
	for _, set := range [][]Output{m.Unspent, m.Change, m.Receiving} {
		b = appendList(b, set, appendOutput)
	}
	return appendI32(b, m.Height)
}

func (m InventoryRequest) append(b []byte) []byte {
	return appendI32(appendList(b, m.Addresses, appendAddress), m.Limit)
}

func (m InventoryResponse) append(b []byte) []byte {
	b = appendList(b, m.Transactions, func(b []byte, one InventoryItem) []byte {
		return appendI32(appendID(b, one.ID), one.Height)
	})
	return appendI32(b, m.Height)
}

func (m SummaryRequest) append(b []byte) []byte { return appendList(b, m.IDs, appendID) }

func (m SummaryResponse) append(b []byte) []byte {
	b = appendList(b, m.Transactions, func(b []byte, one Summary) []byte { return Append(b, one) })
	return appendI32(b, m.Height)
}

func (m BroadcastRequest) append(b []byte) []byte { return append(b, tx.Bytes(m.Tx)...) }

func (m BroadcastResponse) append(b []byte) []byte { return appendID(b, m.ID) }

func readOutput(r *codec.Reader) Output {
	o := Output{Point: wire.OutPoint{Hash: readID(r), Index: uint32(compact(r, math.MaxUint32))}, Height: i32(r), Value: i64(r)}
	o.Script = append([]byte(nil), r.Take(int(compact(r, uint64(r.Len()))))...)
	return o
}

func appendOutput(b []byte, o Output) []byte {
	b = appendCompact(appendID(b, o.Point.Hash), uint64(o.Point.Index))
	b = appendI64(appendI32(b, o.Height), o.Value)
	return append(appendCompact(b, uint64(len(o.Script))), o.Script...)
}

func readInventoryItem(r *codec.Reader) InventoryItem { return InventoryItem{readID(r), i32(r)} }

func readItems(r *codec.Reader) []Item {
	var all []Item
	for n := u16(r); n > 0 && r.Err() == nil; n-- {
		all = append(all, Item{readAddress(r), i64(r)})
	}
	return all
}

func appendItems(b []byte, all []Item) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(all)))
	for _, one := range all {
		b = appendI64(appendAddress(b, one.Address), one.Value)
	}
	return b
}
