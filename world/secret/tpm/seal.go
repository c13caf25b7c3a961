package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"coinop.dev/world/secret"
)

const (
	bank      = tpm2.TPMAlgSHA256 // of the PCRs, and the hash of policies and sessions
	nonceSize = 16
)

// A session is a conversation with a TPM that has its storage key loaded.
type session struct {
	*line
	primary tpm2.NamedHandle
	public  tpm2.TPMTPublic
}

// with opens the device and loads the storage key, which a TPM derives from its own
// seed: the same each time, until the TPM is cleared.
func (h *Home) with(do func(*session) error) (err error) {
	l, err := h.dev.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(l)
	if err != nil {
		return explain("load the storage key", err)
	}
	defer func() {
		if _, e := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(l); err == nil && e != nil {
			err = explain("unload the storage key", e)
		}
	}()
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return explain("load the storage key", err)
	}
	name, err := tpm2.ObjectName(public) // and not what the TPM says it is
	if err != nil {
		return explain("load the storage key", err)
	}
	return do(&session{l, tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: *name}, *public})
}

// auth is a session of one command that the storage key protects.
func (c *session) auth(options ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(bank, nonceSize, append(options, tpm2.Salted(c.primary.Handle, c.public))...)
}

func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: bank, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

// pcrs reads registers, one by one: a TPM gives at most eight at a time.
func (c *session) pcrs(registers []uint) (list []pcr, err error) {
	for _, n := range registers {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: selection([]uint{n})}.Execute(c)
		if err != nil {
			return nil, explain("read a PCR", err)
		}
		if len(rsp.PCRValues.Digests) != 1 || len(rsp.PCRValues.Digests[0].Buffer) != sha256.Size {
			return nil, fmt.Errorf("the TPM has no PCR %d in its SHA-256 bank; choose others with pcrs=, or switch the bank on in the firmware", n)
		}
		list = append(list, pcr{n, rsp.PCRValues.Digests[0].Buffer})
	}
	return list, nil
}

// policy tells a policy session what must hold: the PCRs' values now, and the PIN.
func policy(c *session, handle tpm2.TPMHandle, pcrs []uint, pin bool) error {
	if _, err := (tpm2.PolicyPCR{PolicySession: handle, Pcrs: selection(pcrs)}).Execute(c); err != nil {
		return explain("check the PCRs", err)
	}
	if !pin {
		return nil
	}
	_, err := tpm2.PolicyAuthValue{PolicySession: handle}.Execute(c)
	return explain("ask for the PIN", err)
}

// digest is what a policy comes to.
func (h *Home) digest(c *session) ([]byte, error) {
	trial, done, err := tpm2.PolicySession(c, bank, nonceSize, tpm2.Trial())
	if err != nil {
		return nil, explain("begin a policy", err)
	}
	defer done()
	if err := policy(c, trial.Handle(), h.pcrs, h.pin != ""); err != nil {
		return nil, err
	}
	rsp, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(c)
	if err != nil {
		return nil, explain("compute a policy", err)
	}
	return rsp.PolicyDigest.Buffer, nil
}

// authValue is what the PIN is to the TPM: hex, because a value with a zero byte in it
// is not the same to every implementation.
func (h *Home) authValue() ([]byte, error) {
	if h.pin == "" {
		return nil, nil
	}
	pin, err := secret.ReadWord(h.pin)
	if err != nil {
		return nil, err
	}
	defer clear(pin)
	sum := sha256.Sum256(pin)
	defer clear(sum[:])
	return hex.AppendEncode(nil, sum[:16]), nil
}

// seal has the TPM encrypt p so that only it can open it, and only as it is now.
func (h *Home) seal(c *session, p payload, index tpm2.TPMHandle) (b blob, err error) {
	pin, err := h.authValue()
	if err != nil {
		return b, err
	}
	defer clear(pin)
	values, err := c.pcrs(h.pcrs)
	if err != nil {
		return b, err
	}
	digest, err := h.digest(c)
	if err != nil {
		return b, err
	}
	plain := p.marshal()
	defer clear(plain)
	rsp, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: c.primary.Handle, Name: c.primary.Name, Auth: c.auth(tpm2.AESEncryption(128, tpm2.EncryptIn))},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: pin},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: plain}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type:    tpm2.TPMAlgKeyedHash,
			NameAlg: bank,
			// Without UserWithAuth there is no way around the policy. NoDA: without a PIN
			// there is nothing to guess, so others' guesses must not lock it.
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: h.pin == ""},
			AuthPolicy:       tpm2.TPM2BDigest{Buffer: digest},
		}),
	}.Execute(c)
	if err != nil {
		return b, explain("seal", err)
	}
	return blob{
		Format: format, Primary: c.primary.Name.Buffer, Public: rsp.OutPublic.Bytes(), Private: rsp.OutPrivate.Buffer,
		PCRs: values, Pin: h.pin != "", Counter: nvCounter(index),
	}, nil
}

// unseal opens b. The caller clears the secret.
func (h *Home) unseal(c *session, b blob) (p payload, err error) {
	if !bytes.Equal(b.Primary, c.primary.Name.Buffer) {
		return p, errOther
	}
	if b.Pin != (h.pin != "") {
		return p, fmt.Errorf("%s was sealed %s", h.path, pinned(b.Pin))
	}
	if !slices.Equal(b.registers(), h.pcrs) {
		return p, fmt.Errorf("%s was sealed to PCRs %s and the URI says %s; write pcrs=%s", h.path, list(b.registers()), list(h.pcrs), list(b.registers()))
	}
	pin, err := h.authValue()
	if err != nil {
		return p, err
	}
	defer clear(pin)
	object, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: c.primary.Handle, Name: c.primary.Name, Auth: c.auth()},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.Public),
	}.Execute(c)
	if err != nil {
		return p, explain("load the sealed secret", err)
	}
	defer tpm2.FlushContext{FlushHandle: object.ObjectHandle}.Execute(c)
	session, done, err := tpm2.PolicySession(c, bank, nonceSize, tpm2.Auth(pin),
		tpm2.Salted(c.primary.Handle, c.public), tpm2.AESEncryption(128, tpm2.EncryptOut))
	if err != nil {
		return p, explain("begin a policy", err)
	}
	defer done()
	if err := policy(c, session.Handle(), h.pcrs, b.Pin); err != nil {
		return p, err
	}
	rsp, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.ObjectHandle, Name: object.Name, Auth: session}}.Execute(c)
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return p, changed(c, b)
	}
	if err != nil {
		return p, explain("open the sealed secret", err)
	}
	defer clear(rsp.OutData.Buffer)
	return parsePayload(rsp.OutData.Buffer)
}

// changed says which registers are not what they were.
func changed(c *session, b blob) error {
	now, err := c.pcrs(b.registers())
	if err != nil {
		return err
	}
	var differ []string
	for i, was := range b.PCRs {
		if !bytes.Equal(was.SHA256, now[i].SHA256) {
			differ = append(differ, fmt.Sprintf("PCR %d was %.4x… and is %.4x…", was.Register, was.SHA256, now[i].SHA256))
		}
	}
	return fmt.Errorf("%w: %s; boot what was booted when it was sealed, or restore the secret from its backup and seal it again",
		ErrBoot, strings.Join(differ, ", "))
}

func pinned(pin bool) string {
	if pin {
		return "with a PIN; add pin_file="
	}
	return "without a PIN; leave out pin_file="
}

func list(pcrs []uint) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(pcrs), " ", ","), "[]")
}
