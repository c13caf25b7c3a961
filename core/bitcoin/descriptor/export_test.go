package descriptor

// What BIP 380's vectors ask of forms that Parse does not take.
var (
	Checksum = checksum
	Checked  = checked
)
