package main

import (
	"github.com/spf13/cobra"
)

// transformCommand is the group of commands for those who write transforms.
func transformCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "transform", Short: "Write, try and test transforms", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand()
	return c
}
