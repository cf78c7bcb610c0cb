//go:build !onboard

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"veneer/images/build"
)

func keygenCommand() *cobra.Command {
	var (
		spec build.KeySpec
		pass passphraseFlags
		open bool
		dir  string
	)
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key pair that signs builds",
		Long: `Make an Ed25519 key pair in the format of minisign: the secret key signs builds, the public key is what initramfs
images trust. The public key goes beside the secret one, with .pub in the place of .key.

The secret key is protected by a passphrase, which is asked for on the terminal or read from the first line of
--passphrase-file. With --no-passphrase whoever can read the file can sign.

--secure-boot makes what Secure Boot needs instead, in a directory: a key pair each for PK, KEK and db (.key, .crt), and the files
with which firmware in its setup mode takes them in (.auth). db.key and db.crt are boot.key and boot.cert of veneer.toml, and the
directory is boot.enroll.`,
		Example: `  veneer keygen -o release.key
  veneer keygen -o ci.key --no-passphrase --comment 'builds of the CI'`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir != "" {
				for _, flag := range []string{"output", "force", "comment", "no-passphrase", "passphrase-file"} {
					if cmd.Flags().Changed(flag) {
						return usageError{fmt.Errorf("--%s does not go with --secure-boot, which makes keys without a passphrase and replaces none", flag)}
					}
				}
				return secureBootKeys(cmd, dir)
			}
			if open && pass.file != "" {
				return usageError{errors.New("--no-passphrase and --passphrase-file contradict each other")}
			}
			if spec.Path == "" {
				return usageError{errors.New("-o: want the name of a file for the secret key")}
			}
			if err := spec.Check(); err != nil {
				return err
			}
			if !open {
				var err error
				if spec.Passphrase, err = pass.choose(cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			key, err := build.GenerateKey(spec)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "key     %s\nsecret  %s (keep it; without it no update can be signed)\npublic  %s\n", key.ID, spec.Path, spec.PublicPath())
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&spec.Path, "output", "o", "veneer.key", "file of the secret key")
	flags.StringVar(&spec.Comment, "comment", "", "a line for people in the public key")
	flags.BoolVar(&spec.Force, "force", false, "replace keys that are there")
	flags.BoolVar(&open, "no-passphrase", false, "do not protect the secret key")
	flags.StringVar(&dir, "secure-boot", "", "make the keys of Secure Boot in this directory")
	pass.add(cmd)
	return cmd
}

func secureBootKeys(cmd *cobra.Command, dir string) error {
	names, err := build.GenerateSecureBootKeys(dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "made in %s: %s (keep the .key files secret)\n", dir, strings.Join(names, " "))
	return err
}

// passphraseFlags say where the passphrase of a secret key comes from.
type passphraseFlags struct{ file string }

func (p *passphraseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "passphrase-file", "", "file whose first line is the passphrase of the secret key (- for standard input)")
}

// errNoTerminal is what remains when there is nobody to ask.
var errNoTerminal = errors.New("no terminal to ask for the passphrase: give --passphrase-file")

// ask returns the passphrase of a key that exists.
func (p passphraseFlags) ask(w io.Writer) ([]byte, error) {
	if p.file != "" {
		return p.read()
	}
	return prompt(w, "Passphrase of the secret key: ")
}

// choose returns the passphrase for a new key, asked for twice.
func (p passphraseFlags) choose(w io.Writer) ([]byte, error) {
	if p.file != "" {
		return p.read()
	}
	first, err := prompt(w, "Passphrase for the new secret key: ")
	if errors.Is(err, errNoTerminal) {
		return nil, usageError{fmt.Errorf("%w, or --no-passphrase for a key without", err)}
	}
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, errors.New("the passphrase is empty; --no-passphrase makes a key without")
	}
	if err := build.CheckPassphrase(first); err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	second, err := prompt(w, "The same again: ")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two passphrases differ; no key was made")
	}
	return first, err
}

func (p passphraseFlags) read() ([]byte, error) {
	const most = 4 << 10 // more than a passphrase may have, so that none is cut to one that may
	in := os.Stdin
	if p.file != "-" {
		f, err := os.Open(p.file)
		if err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if err := build.CheckPassphrase(line); err != nil {
		return nil, fmt.Errorf("passphrase, the first line of %s: %w", p.file, err)
	}
	return line, nil
}

func prompt(w io.Writer, text string) ([]byte, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errNoTerminal
	}
	fmt.Fprint(w, text)
	defer fmt.Fprintln(w)
	return term.ReadPassword(int(os.Stdin.Fd()))
}
