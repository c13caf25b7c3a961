package coinop

import "reflect"

// UndocumentedKeys are those that the reference says nothing of.
func UndocumentedKeys() (missing []string) {
	types := map[string]reflect.Type{}
	keysOf(reflect.TypeFor[Config](), "", types)
	for _, k := range Keys() {
		delete(types, k.Name)
	}
	for name := range types {
		missing = append(missing, name)
	}
	return missing
}
