package invoice

import (
	"fmt"
	"strconv"
	"strings"

	"coinop.dev/core/money"
)

// Networks by the prefix that their addresses have (BIP 173), which stands
// behind "ln".
const (
	Mainnet = "bc"
	Testnet = "tb"
	Signet  = "tbs"
	Regtest = "bcrt"
	Simnet  = "sb"
)

func known(network string) bool {
	switch network {
	case Mainnet, Testnet, Signet, Regtest, Simnet:
		return true
	}
	return false
}

// multipliers of a bitcoin, largest first. Pico is a tenth of a msat, so its
// amounts end in 0 (BOLT 11, "Human-Readable Part").
var multipliers = []struct {
	letter string
	unit   money.Amount
}{{"", money.BTC}, {"m", money.BTC / 1e3}, {"u", money.BTC / 1e6}, {"n", money.BTC / 1e9}}

const pico = "p"

// parsePrefix reads the human-readable part: ln, a network, an amount or none.
func parsePrefix(prefix string) (network string, a money.Amount, err error) {
	rest, ok := strings.CutPrefix(prefix, "ln")
	if !ok {
		return "", 0, fmt.Errorf("starts with %.10q, not ln", prefix)
	}
	digits := strings.IndexAny(rest, "0123456789")
	if digits < 0 {
		digits = len(rest)
	}
	if network = rest[:digits]; !known(network) {
		return "", 0, fmt.Errorf("network %.10q is unknown", network)
	}
	if rest = rest[digits:]; rest == "" {
		return network, 0, nil
	}
	a, err = parseAmount(rest)
	return network, a, err
}

func parseAmount(text string) (money.Amount, error) {
	digits, letter := text, ""
	if last := text[len(text)-1]; last < '0' || last > '9' {
		digits, letter = text[:len(text)-1], text[len(text)-1:]
	}
	unit, known := money.Msat, letter == pico
	if known {
		whole, ok := strings.CutSuffix(digits, "0")
		if !ok {
			return 0, fmt.Errorf("amount %.30q has a part of a msat; with multiplier p it must end in 0", text)
		}
		digits = whole
	}
	for _, m := range multipliers {
		if m.letter == letter {
			unit, known = m.unit, true
		}
	}
	if !known {
		return 0, fmt.Errorf("amount %.30q has multiplier %q; there are m, u, n and p", text, letter)
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || digits[0] < '1' || digits[0] > '9' {
		return 0, fmt.Errorf("amount %.30q is not a number without leading zeros and a multiplier m, u, n or p", text)
	}
	a, ok := unit.Times(n)
	if !ok {
		return 0, fmt.Errorf("amount %.30s is more than the %d msat there can be", text, uint64(money.MaxAmount))
	}
	return a, nil
}

// prefix is the human-readable part, with the largest multiplier that fits.
func prefix(network string, a money.Amount) string {
	if a == 0 {
		return "ln" + network
	}
	for _, m := range multipliers {
		if a%m.unit == 0 {
			return "ln" + network + strconv.FormatUint(uint64(a/m.unit), 10) + m.letter
		}
	}
	return "ln" + network + strconv.FormatUint(uint64(a), 10) + "0" + pico
}
