package main

import "github.com/spf13/cobra"

// transformCommand is the group of commands for those who write transforms.
func transformCommand() *cobra.Command {
	return group("transform", "Write, try and test transforms")
}
