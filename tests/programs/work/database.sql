-- A table filled at once, indexed, queried, changed, thinned out and packed.
.bail on
.headers on
pragma journal_mode = wal;
pragma threads = 2;
pragma cache_size = -8000;
pragma temp_store = memory;

create table person (id integer primary key, name text not null, city integer, born integer, note text, face blob);
begin;
with recursive n(i, r) as (
  select 1, 12345
  union all
  select i + 1, (r * 1103515245 + 12345) & 2147483647 from n where i < 120000
)
insert into person
select i, printf('name %d', r % 99991), r % 317, 1900 + (r >> 8) % 120,
  substr('a note of some length, cut where the number says, and repeated: a note of some length', 1, (r >> 4) % 80),
  zeroblob((r >> 12) % 90)
from n;
commit;
create index person_name on person (name, born);
create index person_city on person (city, born desc, id);
create table city as
select city as id, count(*) as people, min(born) as oldest, group_concat(id) as members from person group by city;
analyze;

select count(*), sum(length(note)), sum(length(face)), min(name), max(name) from person;
select id, people, oldest, length(members) from city order by people desc, id limit 10;
select p.born / 10 * 10 as decade, count(distinct p.name), avg(c.people)
from person p join city c on c.id = p.city group by decade order by decade;
select name, born, rank() over (partition by born order by name, id) as place from person
where city between 40 and 44 order by name, born, place limit 12;
select a.name, count(*) from person a join person b on a.name = b.name and a.id < b.id
group by a.name order by 2 desc, 1 limit 5;
select json_group_array(json_object('id', id, 'note', note)) from (select id, note from person where id % 30011 = 7);
select count(*) from person where note like '%cut where%' or name glob 'name 9*';

begin;
update person set note = upper(note) || ' (changed)', born = born + 1 where city % 3 = 0;
delete from person where id % 5 = 0;
insert into person (name, city, born, note)
select name || ' again', city, born, hex(face) from person where id % 11 = 0;
savepoint doubtful;
update person set name = name || name;
rollback to doubtful;
commit;
select count(*), sum(length(name)), sum(length(note)) from person;
reindex;
pragma wal_checkpoint(truncate);
pragma journal_mode = delete;
vacuum;
pragma integrity_check;
pragma foreign_key_check;
