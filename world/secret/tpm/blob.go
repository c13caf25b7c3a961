package tpm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"coinop.dev/world/secret"
)

const (
	format = 1
	// nameSize is a Name's: two bytes for SHA-256 and the hash.
	nameSize = 2 + 32
	// headSize is what is sealed in front of the secret: format, name, offset. A TPM
	// seals up to 128 bytes (MAX_SYM_DATA).
	headSize = 1 + nameSize + 8
)

// A blob is what the file has. Nothing in it is secret, and only Public and Private
// decide: the rest says what is wrong before the TPM says no.
type blob struct {
	Format  int       `json:"format"`
	Primary []byte    `json:"primary"` // Name of the TPM's storage key
	Public  []byte    `json:"public"`  // TPMT_PUBLIC of the sealed object
	Private []byte    `json:"private"` // TPM2B_PRIVATE's buffer
	PCRs    []pcr     `json:"pcrs"`
	Pin     bool      `json:"pin"`
	Counter nvCounter `json:"counter"` // NV index
}

type nvCounter uint32

// A pcr is a register's value when the secret was sealed.
type pcr struct {
	Register uint   `json:"register"`
	SHA256   []byte `json:"sha256"`
}

func (b blob) marshal() []byte {
	out, err := json.Marshal(b)
	if err != nil {
		panic(err) // bytes and numbers only
	}
	return append(out, '\n')
}

var errBlob = errors.New("this is no secret sealed by coinop; put the right file back")

func parseBlob(raw []byte) (b blob, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil || d.More() {
		return blob{}, errBlob
	}
	if b.Format > format {
		return blob{}, fmt.Errorf("its format is %d and this build reads up to %d; use the newer coinop that wrote it", b.Format, format)
	}
	good := b.Format == format && len(b.Primary) == nameSize && len(b.Public) > 0 && len(b.Private) > 0 &&
		len(b.Public) <= maxResponse && len(b.Private) <= maxResponse && len(b.PCRs) > 0 && len(b.PCRs) <= maxPCR+1
	for i, p := range b.PCRs {
		good = good && p.Register <= maxPCR && len(p.SHA256) == 32 && (i == 0 || b.PCRs[i-1].Register < p.Register)
	}
	if !good {
		return blob{}, errBlob
	}
	return b, nil
}

// registers are the PCRs that b is sealed to.
func (b blob) registers() (list []uint) {
	for _, p := range b.PCRs {
		list = append(list, p.Register)
	}
	return list
}

// A payload is what is sealed.
type payload struct {
	name   [nameSize]byte // Name of the counter's NV index
	offset uint64         // the number of the start is the counter's value plus this, modulo 2^64
	secret []byte
}

func (p payload) marshal() []byte {
	b := make([]byte, 0, headSize+len(p.secret))
	b = append(b, format)
	b = append(b, p.name[:]...)
	b = binary.BigEndian.AppendUint64(b, p.offset)
	return append(b, p.secret...)
}

// parsePayload copies out of b.
func parsePayload(b []byte) (p payload, err error) {
	if len(b) < headSize+secret.MinSize || len(b) > headSize+secret.MaxSize || b[0] != format {
		return p, errBlob
	}
	copy(p.name[:], b[1:])
	p.offset = binary.BigEndian.Uint64(b[1+nameSize:])
	p.secret = slices.Clone(b[headSize:])
	return p, nil
}

// bound is what a home knows of its counter.
type bound struct {
	primary []byte
	index   tpm2.TPMHandle
	name    tpm2.TPM2BName
	offset  uint64
}

func (p payload) bound(b blob) *bound {
	return &bound{b.Primary, tpm2.TPMHandle(b.Counter), tpm2.TPM2BName{Buffer: slices.Clone(p.name[:])}, p.offset}
}
