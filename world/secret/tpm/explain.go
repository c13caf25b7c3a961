package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

var (
	// ErrBoot means that the machine was booted in another way than when the secret
	// was sealed.
	ErrBoot = errors.New("the TPM keeps the secret back, because the machine was not booted as it was")
	// ErrOther means that the file was sealed by another TPM, or by this one before
	// it was cleared.
	ErrOther = errors.New("it was sealed by another TPM, or by this one before it was cleared")
	// ErrLocked means that too many wrong PINs were given.
	ErrLocked = errors.New("the TPM is locked after too many wrong PINs")
	// ErrCounter means that the counter in the TPM is not the one that was made with
	// the secret.
	ErrCounter = errors.New("the counter in the TPM is gone or another")

	errOther = fmt.Errorf("%w; go back to that TPM, or restore the secret from its backup", ErrOther)
)

// explain says what the commonest refusals of a TPM mean, and what to do.
func explain(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm2.TPMRCLockout):
		err = fmt.Errorf("%w; wait until it opens by itself (tpm2_getcap properties-variable has the seconds), or let the owner reset it (tpm2_dictionarylockout --clear-lockout)", ErrLocked)
	case errors.Is(err, tpm2.TPMRCAuthFail):
		err = errors.New("the PIN is wrong; correct the file that pin_file= names, a few wrong ones lock the TPM")
	case errors.Is(err, tpm2.TPMRCBadAuth):
		err = errors.New("the TPM's owner has set a password for the storage hierarchy; coinop needs it to be empty")
	case errors.Is(err, tpm2.TPMRCIntegrity):
		err = errOther
	case errors.Is(err, tpm2.TPMRCNVSpace):
		err = errors.New("the TPM has no room for a counter; delete an NV index that nobody uses (tpm2_nvundefine)")
	}
	return fmt.Errorf("tpm: %s: %w", doing, err)
}
