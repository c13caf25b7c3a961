package invoice

// Bech32 for tests, so that they and a fuzzer get past the checksum.
var (
	Encode = encode
	Decode = decode
	Words  = appendWords
	Bytes  = appendBytes
)
