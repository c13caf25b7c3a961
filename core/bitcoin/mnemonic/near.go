package mnemonic

import (
	"cmp"
	"slices"
)

const (
	maxNear     = 3  // words that are offered for one that is wrong
	maxDistance = 2  // slips of the pen that still make a word near
	maxWord     = 16 // bytes; a longer one is not compared
)

// near returns the words of the list that take the fewest slips to become
// word; among equals the one that shares more of its start comes first, since
// four letters tell every word of the list.
func near(word string) []string {
	if len(word) > maxWord {
		return nil
	}
	type candidate struct {
		word          string
		slips, shared int
	}
	var found []candidate
	for _, w := range words {
		if d := distance(word, w); d <= maxDistance {
			found = append(found, candidate{w, d, shared(word, w)})
		} else if shared(word, w) >= 4 {
			found = append(found, candidate{w, maxDistance, 4})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.slips, b.slips), cmp.Compare(b.shared, a.shared))
	})
	var out []string
	for _, c := range found[:min(len(found), maxNear)] {
		out = append(out, c.word)
	}
	return out
}

// shared is how many bytes a and b start with in common.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// distance counts the slips between a and b: a letter too many, too few, wrong,
// or changed with the next one (the optimal string alignment distance).
func distance(a, b string) int {
	var rows [3][maxWord + 1]int // two ago, one ago, now
	for j := range len(b) + 1 {
		rows[2][j] = j
	}
	for i := 1; i <= len(a); i++ {
		rows[0], rows[1] = rows[1], rows[2]
		now := &rows[2]
		now[0] = i
		for j := 1; j <= len(b); j++ {
			wrong := 1
			if a[i-1] == b[j-1] {
				wrong = 0
			}
			now[j] = min(rows[1][j]+1, now[j-1]+1, rows[1][j-1]+wrong)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], rows[0][j-2]+1)
			}
		}
	}
	return rows[2][len(b)]
}
