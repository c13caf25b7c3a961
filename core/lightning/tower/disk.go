package tower

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// Records of a tower: a session with its terms under its own number, a blob
// under the session's and its own, a case under its txid.
const (
	sessionPrefix = ServerName + "/s/"
	blobPrefix    = ServerName + "/b/"
	casePrefix    = ServerName + "/j/"
	heightKey     = ServerName + "/height"

	maxPeerName = 100
)

func (ses *session) key() string { return fmt.Sprintf("%s%08x", sessionPrefix, ses.number) }
func (ses *session) blobKey(n uint32) string {
	return fmt.Sprintf("%s%08x/%08x", blobPrefix, ses.number, n)
}

func (ses *session) record() step.Record {
	b := codec.AppendBytes(nil, ses.peer)
	b = append(b, ses.id[:]...)
	return step.Record{Key: ses.key(), Value: ses.terms.append(b)}
}

// heightRecord may be lost: then blocks are looked at again.
func (s *Server) heightRecord() step.Record {
	return step.Record{Key: heightKey, Value: codec.AppendUint(nil, s.height), Lazy: true}
}

// Durable is everything the tower has on disk, in key order, for whoever wants
// to check it.
func (s *Server) Durable() (all []step.Record) {
	for _, ses := range s.sessions {
		all = append(all, ses.record())
		for n, e := range ses.blobs {
			all = append(all, step.Record{Key: ses.blobKey(uint32(n)), Value: e.Blob.append(nil)})
		}
	}
	for _, b := range s.cases {
		all = append(all, b.record())
	}
	if s.height > 0 {
		all = append(all, s.heightRecord())
	}
	return inOrder(all)
}

func inOrder(all []step.Record) []step.Record {
	slices.SortFunc(all, func(a, b step.Record) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

func (s *Server) caseOrder() []chainhash.Hash {
	return slices.SortedFunc(maps.Keys(s.cases), func(a, b chainhash.Hash) int { return bytes.Compare(a[:], b[:]) })
}

func number(text string) (n uint32, err error) {
	var b [4]byte
	if len(text) != 2*len(b) {
		return 0, fmt.Errorf("key part %.20q is not of 8 hex digits", text)
	}
	_, err = hex.Decode(b[:], []byte(text))
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), err
}

// LoadServer reads a tower back.
func LoadServer(db step.Reader, o Offer) (*Server, error) {
	s, err := NewServer(o)
	if err != nil {
		return nil, err
	}
	byNumber := map[uint32]*session{}
	err = codec.Scan(db, sessionPrefix, func(name string, r *codec.Reader) {
		ses := &session{}
		n, err := number(name)
		if err != nil {
			r.Fail(err)
		}
		ses.number, ses.peer = n, r.String(maxPeerName, "peer")
		r.Fill(ses.id[:])
		ses.terms = readTerms(r)
		if r.Err() == nil {
			s.add(ses)
			byNumber[n] = ses
		}
	})
	if err != nil {
		return nil, err
	}
	if err := s.loadBlobs(db, byNumber); err != nil {
		return nil, err
	}
	err = codec.Scan(db, heightKey, func(_ string, r *codec.Reader) { s.height = r.Height() })
	if err != nil {
		return nil, err
	}
	return s, codec.Scan(db, casePrefix, func(name string, r *codec.Reader) {
		b := readBreach(r)
		if b == nil {
			return
		}
		if b.id.String() != name {
			r.Fail(fmt.Errorf("breach is of transaction %v", b.id))
			return
		}
		s.follow(b)
	})
}

func (s *Server) loadBlobs(db step.Reader, byNumber map[uint32]*session) error {
	return codec.Scan(db, blobPrefix, func(name string, r *codec.Reader) {
		of, nth, _ := strings.Cut(name, "/")
		session, err := number(of)
		if err != nil {
			r.Fail(err)
		}
		n, err := number(nth)
		if err != nil {
			r.Fail(err)
		}
		e := &entry{of: byNumber[session]}
		e.Blob.read(r)
		switch {
		case e.of == nil:
			r.Fail(fmt.Errorf("blob of session %d, which there is not", session))
		case int(n) != len(e.of.blobs):
			r.Fail(fmt.Errorf("blob %d follows %d others", n, len(e.of.blobs)))
		case r.Err() == nil:
			s.keep(e)
		}
	})
}
