package rpc

// ParseAll reads a request in every way that actions do.
func ParseAll(body []byte) {
	r, err := parse(body)
	if err != nil {
		return
	}
	r.text("action")
	r.account("account")
	r.hash("hash")
	r.key("key", badPrivateKey)
	r.texts("accounts")
	r.texts("hashes")
	if r.count(MaxCount) > MaxCount || r.countOr(MaxCount, MaxCount) > MaxCount || r.offset(MaxSum) > MaxSum {
		panic("a limit does not hold")
	}
	r.threshold()
	r.hex64("work", 0, badWork)
	r.has("block")
	for _, asObject := range []bool{false, true} {
		r.values["json_block"] = asObject
		r.fault = nil
		if b := r.block(); r.fault == nil {
			again := &request{values: map[string]any{"block": string(appendValue(nil, contents(&b)))}}
			if back := again.block(); back != b {
				panic("a block comes back as another")
			}
		}
	}
	readOptions(r)
}
