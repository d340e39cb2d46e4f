# zsh -f zsh-completion.zsh SCRIPT: for each line of standard input prints what an interactive zsh that has read SCRIPT offers when TAB is
# pressed behind it: a word, a tab and the description in each line, and an empty line at the end.
zmodload zsh/zpty zsh/zselect
offers=$(mktemp) setup=$(mktemp)
trap 'rm -f $offers $setup' EXIT

cat >$setup <<'END'
PROMPT='' RPROMPT=''
autoload -Uz compinit && compinit -u -D
source $script
zstyle ':completion:*' insert-tab false
zstyle ':completion:*' list-separator ''
# Every match goes through this builtin; it knows which of the words fit what stands before the cursor.
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits descriptions
  local named=${@[(i)-d]} i
  (( named < $# )) && descriptions=("${(@P)@[named+1]}")
  builtin compadd -A hits -D descriptions "$@"
  for i in {1..$#hits}; do
    (( $#hits )) && print -r -- "$hits[i]"$'\t'"$descriptions[i]" >>$offers
  done
  builtin compadd "$@"
}
complete-and-tell() { zle complete-word; print END >>$offers }
zle -N complete-and-tell
bindkey '^I' complete-and-tell
print END >>$offers
END

: >$offers
zpty -b shell zsh -f -i
# Waits for the answer, and reads what the shell writes to its terminal, lest it wait for that.
answer() {
  local screen
  until [[ $(<$offers) == (END|*$'\n'END) ]]; do
    while zpty -rt shell screen; do done
    zselect -t 1
  done
}
zpty -w shell "offers=$offers script=${(q)1}; source $setup"
answer
while IFS= read -r line; do
  : >$offers
  zpty -w -n shell $'\x15'"$line"$'\t'
  answer
  sed '$d' $offers
  print
done
zpty -d shell
