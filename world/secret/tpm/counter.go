package tpm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"coinop.dev/world/store"
)

const (
	// firstIndex is where coinop's counters begin, in the owner's range of NV indices
	// (TCG Registry of Reserved TPM 2.0 Handles, 2.2.2); maxCounters is how many
	// machines can share a TPM.
	firstIndex  tpm2.TPMHandle = 0x0180c010
	maxCounters tpm2.TPMHandle = 64
	// maxSteps is how far a counter is raised step by step. Each is a write to memory
	// that wears out; beyond it a new counter with another offset takes its place.
	maxSteps uint64 = 16
)

// counterPublic is a counter at index. It may be read and raised by whoever can talk
// to the TPM, which harms nobody but the machine's start; it is no target for guesses.
// Its policy allows nothing: it is random so that no two counters have the same name.
func counterPublic(index tpm2.TPMHandle) tpm2.TPMSNVPublic {
	unique := make([]byte, 32)
	rand.Read(unique)
	return tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: bank, DataSize: 8,
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTCounter},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: unique},
	}
}

// define makes a counter at the first free index and raises it for the first time:
// the TPM begins above all counters it ever had. It notes the counter's name in p.
func define(c *session, p *payload) (index tpm2.TPMHandle, first uint64, err error) {
	if index, err = free(c); err != nil {
		return 0, 0, err
	}
	public := counterPublic(index)
	_, err = tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: c.auth()},
		PublicInfo: tpm2.New2B(public),
	}.Execute(c)
	if err != nil {
		return 0, 0, explain("make a counter", err)
	}
	unwritten, err := tpm2.NVName(&public)
	if err != nil {
		return 0, 0, err
	}
	public.Attributes.Written = true
	written, err := tpm2.NVName(&public)
	if err != nil {
		return 0, 0, err
	}
	if err = increment(c, index, *unwritten); err == nil {
		first, err = value(c, index, *written)
	}
	if err != nil {
		return 0, 0, errors.Join(err, undefine(c, index))
	}
	copy(p.name[:], written.Buffer)
	return index, first, nil
}

func free(c *session) (tpm2.TPMHandle, error) {
	for index := firstIndex; index < firstIndex+maxCounters; index++ {
		_, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c)
		if errors.Is(err, tpm2.TPMRCHandle) {
			return index, nil
		}
		if err != nil {
			return 0, explain("look for a free NV index", err)
		}
	}
	return 0, fmt.Errorf("the NV indices %#x to %#x are all taken, for %d machines on one TPM; delete those that nobody uses (tpm2_nvundefine)",
		uint32(firstIndex), uint32(firstIndex+maxCounters-1), maxCounters)
}

func undefine(c *session, index tpm2.TPMHandle) error {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c)
	if err != nil {
		return explain("delete a counter", err)
	}
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: c.auth()},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
	}.Execute(c)
	return explain("delete a counter", err)
}

func increment(c *session, index tpm2.TPMHandle, name tpm2.TPM2BName) error {
	_, err := tpm2.NVIncrement{
		AuthHandle: tpm2.AuthHandle{Handle: index, Name: name, Auth: c.auth()},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: name},
	}.Execute(c)
	return explain("raise the counter", err)
}

func value(c *session, index tpm2.TPMHandle, name tpm2.TPM2BName) (uint64, error) {
	rsp, err := tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: index, Name: name, Auth: c.auth()},
		NVIndex:    tpm2.NamedHandle{Handle: index, Name: name},
		Size:       8,
	}.Execute(c)
	if err != nil {
		return 0, explain("read the counter", err)
	}
	if len(rsp.Data.Buffer) != 8 {
		return 0, fmt.Errorf("tpm: the counter has %d bytes; it must have 8", len(rsp.Data.Buffer))
	}
	return binary.BigEndian.Uint64(rsp.Data.Buffer), nil
}

// A counter counts the starts of the home's machine.
type counter struct{ h *Home }

// String is the home's URI.
func (c counter) String() string { return c.h.name }

// Read is the number of the last start.
func (c counter) Read() (n uint64, err error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	err = c.h.with(func(s *session) error {
		n, err = c.h.start(s)
		return err
	})
	return n, c.h.named(err)
}

// start reads the number of the last start from the counter that belongs to the
// secret, and from no other.
func (h *Home) start(c *session) (uint64, error) {
	b := h.bound
	if b == nil {
		return 0, errors.New("the counter belongs to the secret; load that first")
	}
	if !bytes.Equal(b.primary, c.primary.Name.Buffer) {
		return 0, errOther
	}
	public, err := tpm2.NVReadPublic{NVIndex: b.index}.Execute(c)
	if err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
		return 0, explain("read the counter", err)
	}
	if err != nil || !bytes.Equal(public.NVName.Buffer, b.name.Buffer) {
		return 0, fmt.Errorf("%w: NV index %#x, made with %s; copy the secret to a new home, which has a new counter, and then start with --accept-stale or restore the channel backup", ErrCounter, uint32(b.index), h.path)
	}
	v, err := value(c, b.index, b.name)
	return v + b.offset, err
}

// Write raises the number of the last start to n. It cannot be lowered.
func (c counter) Write(n uint64) error {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	return c.h.named(c.h.with(func(s *session) error {
		now, err := c.h.start(s)
		switch {
		case err != nil:
			return err
		case n < now:
			return fmt.Errorf("the counter is at start %d and does not go back to %d", now, n)
		case n-now > maxSteps:
			return c.h.jump(s, n)
		}
		for ; now < n; now++ {
			if err := increment(s, c.h.bound.index, c.h.bound.name); err != nil {
				return err
			}
		}
		return nil
	}))
}

// jump raises the number with a new counter. The old one goes up before that and away
// after it, so that the file from before, put back, is never good again.
func (h *Home) jump(c *session, n uint64) error {
	b, err := h.read()
	if err != nil {
		return err
	}
	p, err := h.unseal(c, b)
	if err != nil {
		return err
	}
	defer clear(p.secret)
	old := h.bound
	if err := increment(c, old.index, old.name); err != nil {
		return err
	}
	index, first, err := define(c, &p)
	if err != nil {
		return err
	}
	p.offset = n - first
	if b, err = h.seal(c, p, index); err == nil {
		err = store.Replace(h.path, b.marshal())
	}
	if err != nil {
		return errors.Join(err, undefine(c, index))
	}
	h.bound = p.bound(b)
	return undefine(c, old.index)
}
