package zz
import ("testing";"database/sql";"fmt";"time";"path/filepath";_ "modernc.org/sqlite")
func TestX(t *testing.T){
 db,_:=sql.Open("sqlite","file:"+filepath.Join(t.TempDir(),"x.db")+"?_pragma=journal_mode(WAL)&_pragma=cache_size(-8000)&_pragma=temp_store(MEMORY)")
 for _,s:=range []string{
 `CREATE TABLE s (span BIGINT NOT NULL, at_ms BIGINT NOT NULL, name TEXT NOT NULL, gateway TEXT NOT NULL, orders BIGINT NOT NULL, earned BIGINT NOT NULL, refunded BIGINT NOT NULL, failed BIGINT NOT NULL, payments BIGINT NOT NULL, spent BIGINT NOT NULL, fees BIGINT NOT NULL, PRIMARY KEY (span,at_ms, name, gateway))`,
 `WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM c WHERE n<479999) INSERT INTO s SELECT 86400000, (n/10000)*86400000,'device'||(n*31%10000),'gate',3,5000*n,0,0,0,0,0 FROM c`,
 `INSERT INTO s SELECT 4*86400000, at_ms-at_ms%(4*86400000),name,gateway,sum(orders),sum(earned),sum(refunded),sum(failed),sum(payments),sum(spent),sum(fees) FROM s WHERE span=86400000 GROUP BY 2,3,4`,
 `INSERT INTO s SELECT 16*86400000, at_ms-at_ms%(16*86400000),name,gateway,sum(orders),sum(earned),sum(refunded),sum(failed),sum(payments),sum(spent),sum(fees) FROM s WHERE span=86400000 GROUP BY 2,3,4`,
 }{ if _,err:=db.Exec(s);err!=nil{t.Fatal(s,err)} }
 q:=func(name,s string,args ...any){
  best:=time.Hour; n:=0; var worst time.Duration
  for range 5 { b:=time.Now(); r,err:=db.Query(s,args...); if err!=nil{t.Fatal(err)}; n=0; for r.Next(){n++}; if r.Err()!=nil{t.Fatal(r.Err())}; r.Close(); d:=time.Since(b); best=min(best,d); worst=max(worst,d) }
  fmt.Println(name,n,best,worst)
 }
 D:=int64(86400000)
 sums:="SUM(orders),SUM(earned),SUM(refunded),SUM(failed),SUM(payments),SUM(spent),SUM(fees)"
 w:="span = ? AND at_ms>=? AND at_ms<?"
 sel:="SELECT name, orders,earned,refunded,failed,payments,spent,fees FROM s WHERE "+w
 // 3 days, 3 fours, 1 sixteen
 args:=[]any{D,17*D,20*D,4*D,20*D,32*D,16*D,32*D,48*D}
 q("union","SELECT name,"+sums+" FROM ("+sel+" UNION ALL "+sel+" UNION ALL "+sel+") AS x GROUP BY name ORDER BY 3 DESC,1 LIMIT 500",args...)
 q("or","SELECT name,"+sums+" FROM s WHERE ("+w+") OR ("+w+") OR ("+w+") GROUP BY name ORDER BY 3 DESC,1 LIMIT 500",args...)
 part:="SELECT name,SUM(orders) AS orders,SUM(earned) AS earned,SUM(refunded) AS refunded,SUM(failed) AS failed,SUM(payments) AS payments,SUM(spent) AS spent,SUM(fees) AS fees FROM s WHERE "+w+" GROUP BY name"
 q("nested","SELECT name,"+sums+" FROM ("+part+" UNION ALL "+part+" UNION ALL "+part+") AS x GROUP BY name ORDER BY 3 DESC,1 LIMIT 500",args...)
 q("one16","SELECT name,"+sums+" FROM s WHERE "+w+" GROUP BY name ORDER BY 3 DESC,1 LIMIT 500",16*D,32*D,48*D)
 q("earned only","SELECT name,SUM(earned) FROM (SELECT name,earned FROM s WHERE "+w+" UNION ALL SELECT name,earned FROM s WHERE "+w+" UNION ALL SELECT name,earned FROM s WHERE "+w+") AS x GROUP BY name ORDER BY 2 DESC,1 LIMIT 500",args...)
}
