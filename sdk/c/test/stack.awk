# Reads gcc's call graphs (-fcallgraph-info=su) and prints the bytes of stack on
# the deepest path from any of the functions in `roots`. Functions that it has no
# figure for (libc's, the port's) count as nothing.
function quoted(line, key,    at) {
    at = index(line, key ": \"")
    if (at == 0) return ""
    line = substr(line, at + length(key) + 3)
    return substr(line, 1, index(line, "\"") - 1)
}

function deepest(f,    i, n, most, list) {
    if (f in depth) return depth[f]
    if (f in under) {
        print "stack.awk: " f " calls itself" > "/dev/stderr"
        exit 1
    }
    under[f] = 1
    n = split(calls[f], list, "\n")
    for (i = 1; i <= n; i++) {
        if (list[i] != "" && deepest(list[i]) > most) most = deepest(list[i])
    }
    delete under[f]
    return depth[f] = size[f] + most
}

/^node:/ {
    if (match($0, /[0-9]+ bytes/)) size[quoted($0, "title")] = substr($0, RSTART, RLENGTH) + 0
}

/^edge:/ { calls[quoted($0, "sourcename")] = calls[quoted($0, "sourcename")] "\n" quoted($0, "targetname") }

END {
    n = split(roots, list, " ")
    for (i = 1; i <= n; i++) {
        if (deepest(list[i]) > most) most = deepest(list[i])
    }
    print most
}
