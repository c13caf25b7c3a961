// Package bccapi speaks the Bitcoin Client API of Jan Møller's bccapi
// (2011-2013, the library below BitcoinSpinner and ancestor of Mycelium), byte
// for byte: a server without keys that shows a chain to devices which hold them.
//
// # What it promised, what it shipped, what ours does
//
// It promised that a server without keys cannot spend, and that its client sees
// through every lie that would cost money. The first is true. The second is not:
// the client believed amounts, and a signature of before BIP 143 does not cover
// what its inputs are worth, so a server that understates a coin makes the
// device burn the difference as a fee. It also believed that outputs it is not
// shown do not exist. No call carries a previous transaction, a header or a
// proof, so no client of these bytes can know better.
//
// [Server] answers such devices as they expect. [Client] has no key and cannot
// sign: what it returns are claims. [Output.Check] holds one against its
// previous transaction, which has to come from elsewhere. New devices use
// core/wallet and core/consent, where coins come with proofs and a policy signs.
//
// The server keeps nothing between requests but how many a client has made. It
// learns which addresses belong together.
//
// # Bytes
//
// POST /ng/<call>, one frame each way, status 200 also for errors. A frame is a
// type (1 byte), the length of its payload (4) and the payload. Integers are
// little-endian and signed, lists have a count of 4 bytes, text has a length of
// 4 and is UTF-8, an address is its version and HASH160 without a checksum,
// amounts are satoshi in 8 bytes, scripts and output indices have Bitcoin's
// CompactInt. Transaction ids are in the order in which people read them, the
// reverse of that inside of transactions. Height -1 is no block yet. Bytes after
// what a payload or a body is known to have are ignored.
//
//	01 error                 code 4 ‖ text
//	02 balance               unspent 8 ‖ receiving 8 ‖ sending 8 ‖ change 8
//	03 summary               id 32 ‖ height 4 ‖ time 4 ‖ 2 × (count 2 ‖ (address 21 ‖ value 8)*)
//	04 queryBalance          addresses
//	05                       frame 02
//	06 queryUnspentOutputs   addresses
//	07                       3 × outputs (unspent, change, receiving) ‖ tip height 4
//	                         output: id 32 ‖ index CompactInt ‖ height 4 ‖ value 8 ‖ script
//	08 queryTransactionInventory   addresses ‖ limit 4
//	09                       (id 32 ‖ height 4)* ‖ tip height 4
//	10 queryTransactionSummary     ids
//	11                       frames 03 ‖ tip height 4
//	12 broadcastTransaction  transaction
//	13                       id 32
//
// Types are hexadecimal: 0a to 0f are not used.
//
// # Sources
//
// Read in the mirror lyzibug/bccapi, commits ec60e92, 58f4ed2, 58c7365 and
// 9c3aeb6: the classes of com.bccapi.ng.api (types, field order, limits, error
// codes, the meaning of the balances), ng.impl.BitcoinClientApiImpl (paths,
// POST, status, Content-Length, 60 s), ng.async, both examples, and bitlib's
// Address, OutPoint, UnspentTransactionOutput and script classes. Primitives
// (integers, text, hashes as they are, CompactInt) were read in a ByteReader of
// the same package name and in ByteWriter, CompactInt and TransactionInput of
// its descendants, because the mirror's text lacks them.
//
// Not to be verified, as the server was never published and no recorded traffic
// or test is known: its Content-Type, what it did with more than the limits,
// with unknown ids, with outputs that have no such address, with unripe block
// rewards, and the time and the height of what waits. Ours refuses the first
// two, writes an address of twenty zero bytes, leaves unripe rewards out, and
// gives the height as -1, which the client's arithmetic says for summaries.
// Balance.Sending is counted as Mycelium, its descendant, counts it.
//
// The first protocol (/1/..., 2011-2012: getLoginChallenge, login,
// getAccountInfo, getAccountStatement, addKeyToWallet, getSendCoinForm,
// submitTransaction) was read in the same mirror and is not served: it needs
// accounts on the server, and the server built the transactions.
package bccapi
