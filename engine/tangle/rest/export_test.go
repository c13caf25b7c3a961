package rest

import "net/url"

// ReadTopic reads a topic, for fuzzing.
func ReadTopic(name, hrp string) error {
	_, err := readTopic(name, hrp)
	return err
}

// ReadPage reads a question to the indexer, for fuzzing: how many outputs it may have.
func ReadPage(query, hrp string) (int, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return 0, err
	}
	p, err := readPage(q, hrp)
	return p.size, err
}
