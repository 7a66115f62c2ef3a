package config

// Transforms are the settings of the process that runs the scripts.
type Transforms struct {
	Memory int64 // what the process may hold, in bytes
}

// Limits of transforms.memory: with less the engine itself has no room.
const (
	minScriptMemory = 64 << 20
	maxScriptMemory = 16 << 30
)

func (t *Transforms) fields() fields {
	return fields{"memory": size(&t.Memory, minScriptMemory, maxScriptMemory)}
}
